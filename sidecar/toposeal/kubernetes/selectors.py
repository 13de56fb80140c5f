"""Label selectors, exactly as Kubernetes means them. No IO."""

from __future__ import annotations

from collections.abc import Mapping

from toposeal.kubernetes.fields import Field

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def matches(selector: Field, labels: Mapping[str, str]) -> bool:
    """Whether `selector` (a LabelSelector; an empty one selects everything) selects `labels`.

    Raises UsageError for what is none, whatever the labels are.
    """
    selector.only("matchLabels", "matchExpressions")
    held = [_holds(expression, labels) for expression in selector.at("matchExpressions").items()]
    return has(labels, selector.at("matchLabels").labels()) and all(held)


def has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all that is `wanted` is among `labels`."""
    return wanted.items() <= labels.items()


def _holds(expression: Field, labels: Mapping[str, str]) -> bool:
    expression.only("key", "operator", "values")
    key, operator = (expression.at(name).text() for name in ("key", "operator"))
    if key is None:
        raise expression.at("key").refused("a label's name")
    if operator not in _OPERATORS:
        raise expression.at("operator").refused(f"one of {', '.join(_OPERATORS)}")
    values = [item.text() for item in expression.at("values").items()]
    if bool(values) is not operator.endswith("In"):
        raise expression.at("values").refused("values for In and NotIn alone")
    if operator.endswith("In"):
        return (labels.get(key) in values) is (operator == "In")
    return (key in labels) is (operator == "Exists")
