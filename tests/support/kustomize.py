"""The component's patch, as the renderer makes it: `python tests/support/kustomize.py` writes it anew."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

from toposeal.kubernetes import parts
from toposeal.kubernetes.parts import Settings
from toposeal.topology.author import compile_yaml
from toposeal.topology.model import Role, Topology
from toposeal.topology.parse import parse_topology

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
COMPONENT = EXAMPLES / "kustomize" / "sidecar"
MEMBERS = "toposeal-members"  # the headless Service that finds the pods of all roles
SETTINGS = Settings("toposeal", "", "toposeal")  # whoever uses the component gives the image another name
TOPOLOGY = parse_topology(compile_yaml((EXAMPLES / "shop" / "topology.yaml").read_bytes(), bytes(48)))


def patch() -> str:
    """For a role that leaves the registers alone; of all else of a role nothing is in a patch."""
    return pod_patch(SETTINGS, TOPOLOGY, TOPOLOGY.roles["web"])


def pod_patch(settings: Settings, topology: Topology, role: Role) -> str:
    """What `inject` adds to a pod of `role`, but for runtime class and initdata; one name finds all peers."""
    containers = parts.init_containers(settings, topology, role, (MEMBERS,))
    volumes = parts.volumes(settings, role)
    return f"""# Made by tests/support/kustomize.py of what `inject` writes; the name is the target's.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: each
spec:
  template:
    metadata:
      labels: {{toposeal.dev/member: "true"}}
    spec:
      initContainers:
{indent(containers, "      ")}      volumes:
{indent(volumes, "      ")}"""


if __name__ == "__main__":
    (COMPONENT / "pod.yaml").write_text(patch())
