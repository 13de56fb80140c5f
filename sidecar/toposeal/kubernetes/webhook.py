"""The objects by which a cluster runs the webhook, YAML text. No IO.

What the webhook reads is in one ConfigMap; its key is in a Secret that somebody else makes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toposeal.kubernetes import parts
from toposeal.kubernetes.workload import ROLE
from toposeal.limits import ADMISSION_TIMEOUT
from toposeal.topology.model import Topology

NAME = "toposeal-webhook"
FILES, TLS = "/etc/toposeal", "/etc/toposeal-tls"
PORT, ADMISSION_PATH = 8443, "/admit"
_USER = 65534


@dataclass(frozen=True)
class Place:
    """Where the webhook runs, whose pods it is asked about, and by which CA the API server knows it."""

    namespace: str
    pods: str  # namespace of the application
    image: str
    ca: bytes  # PEM


def manifests(topology: Topology, place: Place, arguments: Sequence[str], files: Mapping[str, str]) -> str:
    """Two namespaces' objects and the configuration. `arguments` are the command's, but for certificate and
    port; `files` are its ConfigMap, which it has in FILES.
    """
    own = (f"--port={PORT}", f"--cert={TLS}/tls.crt", f"--key={TLS}/tls.key")
    services = (parts.service(role, place.pods, {ROLE: role}) for role in sorted(topology.roles))
    return "".join(
        (*services, _files(place, files), _deployment(place, (*arguments, *own)), _registered(place))
    )


def _files(place: Place, files: Mapping[str, str]) -> str:
    data = "".join(f"  {_text(name)}: {_text(text)}\n" for name, text in sorted(files.items()))
    return f"""---
apiVersion: v1
kind: ConfigMap
metadata: {_named(place)}
data:
{data}"""


def _deployment(place: Place, arguments: Sequence[str]) -> str:
    command = ", ".join(map(_text, ("toposeal", "webhook", "serve", *arguments)))
    return f"""---
apiVersion: v1
kind: Service
metadata: {_named(place)}
spec:
  selector: {{app: {NAME}}}
  ports:
  - {{port: 443, targetPort: {PORT}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {_named(place)}
spec:
  replicas: 2
  selector:
    matchLabels: {{app: {NAME}}}
  template:
    metadata:
      labels: {{app: {NAME}}}
    spec:
      automountServiceAccountToken: false
      containers:
      - name: webhook
        image: {_text(place.image)}
        command: [{command}]
        ports:
        - containerPort: {PORT}
        readinessProbe:
          tcpSocket: {{port: {PORT}}}
        resources:
          requests: {{cpu: 50m, memory: 96Mi}}
          limits: {{memory: 384Mi}}
        securityContext:
          runAsNonRoot: true
          runAsUser: {_USER}
          runAsGroup: {_USER}
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          seccompProfile: {{type: RuntimeDefault}}
          capabilities: {{drop: [ALL]}}
        volumeMounts:
        - {{name: tls, mountPath: {TLS}, readOnly: true}}
{_mounted(arguments)}      securityContext: {{fsGroup: {_USER}}}
      volumes:
      - name: files
        configMap: {{name: {NAME}}}
      - name: tls
        secret: {{secretName: {NAME}, defaultMode: 0440}}
"""


def _mounted(arguments: Sequence[str]) -> str:
    """Each file by itself: what `toposeal` reads is no symbolic link, as those of a whole volume are."""
    paths = [one.rpartition("=")[2] for one in arguments]
    names = [path.removeprefix(f"{FILES}/") for path in paths if path.startswith(f"{FILES}/")]
    mount = "        - {{name: files, mountPath: {0}, subPath: {1}, readOnly: true}}\n"
    return "".join(mount.format(_text(f"{FILES}/{name}"), _text(name)) for name in names)


def _registered(place: Place) -> str:
    """Fail: while the webhook is silent no pod with a role is made, rather than one without a sidecar."""
    bundle = base64.b64encode(place.ca).decode("ascii")
    return f"""---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {NAME}-{place.pods}
webhooks:
- name: pods.toposeal.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  matchPolicy: Equivalent
  reinvocationPolicy: Never
  timeoutSeconds: {ADMISSION_TIMEOUT // 1000}
  namespaceSelector:
    matchLabels: {{kubernetes.io/metadata.name: {_text(place.pods)}}}
  objectSelector:
    matchExpressions:
    - {{key: {ROLE}, operator: Exists}}
  rules:
  - {{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE], scope: Namespaced}}
  clientConfig:
    caBundle: {bundle}
    service: {{name: {NAME}, namespace: {_text(place.namespace)}, path: {ADMISSION_PATH}, port: 443}}
"""


def _named(place: Place) -> str:
    return f"{{name: {NAME}, namespace: {_text(place.namespace)}}}"


def _text(value: str) -> str:
    """Any text as YAML's double quotes, of which JSON's are a part."""
    return json.dumps(value)
