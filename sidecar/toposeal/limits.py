"""Every bound of the system, each with its reason. Sizes in bytes, times in milliseconds."""

from __future__ import annotations

# Identifiers.
DIGEST_SIZE = 48  # SHA-384
NONCE_SIZE = 32
REPORT_DATA_SIZE = 64  # TDX and SNP: exactly one SHA-512
MAX_NAME_LENGTH = 40  # roles and meshes; two of them and a member name fit one DNS name

# Topology (docs/topology.md): what one owner can reasonably sign, far below parser trouble.
MAX_TOPOLOGY_SIZE = 1 << 20
MAX_TOPOLOGY_DEPTH = 16
MAX_ROLES = 256
MAX_REPLICAS = 1000  # members of one manifest, all roles together
MAX_PORTS_PER_ROLE = 64
MAX_ADDRESSES_PER_ROLE = 16  # of Services in front of one role, of both families
MAX_REFERENCES_PER_ROLE = 64
MAX_PLATFORMS = 4096
MAX_OWNER_KEYS = 64
MAX_VERSION = (1 << 53) - 1  # exact in every JSON reader
MAX_EPOCH = (1 << 53) - 1

# Evidence.
MAX_QUOTE_SIZE = 32 << 10  # the kernel's own cap on outblob (linux report.c)
MAX_AGENT_ANSWER = 1 << 20  # what an agent in the guest says with a quote: logs of the firmware and its own
MAX_TDX_QUOTE_SIZE = 8 << 10  # larger blobs are not DCAP v4/v5 (Linux ABI, configfs-tsm)
MAX_COLLATERAL_SIZE = 256 << 10  # one platform family; real ones are 15 to 21 KiB
MAX_COLLATERAL_ENTRIES = 16
MAX_CERTIFICATE_SIZE = 2048  # our own CA profile needs about 600

# Peer link.
MAX_MESSAGE_SIZE = 4 << 20
MAX_ENVELOPE_SIZE = 384 << 10  # an introduction with evidence; every other message is smaller
MAX_ADDRESSES = 8
MAX_EPOCH_STEP = 64  # above the highest epoch that anything verified proves
MAX_TRAIL = 8  # manifests in a row that were sealed by some and never proven active; then it stands still
CERTIFICATE_PART = 128 << 10  # of records in one part; a part holds at least one
MAX_PARTS = 64  # to one peer in ping_ms: a certificate of 1000 members
MAX_CANDIDATES_PER_ROLE = 64  # above the role's maximum; a stranger cannot grow the table (P12)
MAX_DECLINED = 16  # refusals of others' evidence that a member remembers for its status,
DECLINED_MEMORY = 300_000  # and for how long: whom it concerns introduces itself again every two minutes
MAX_PEER_CONNECTIONS = 1024
MAX_REQUESTS_PER_SECOND = 200  # from one source address
ASKED_PER_SECOND = 5  # statuses and topologies at the peer port, from one source address,
ASKED_PER_SECOND_IN_ALL = 20  # and from all: each costs milliseconds in a mesh of a thousand
ASKED_AT_ONCE = 2  # of one source that have not been read to their end,
ASKED_AT_ONCE_IN_ALL = 16  # and of all: each may hold MAX_STATUS_SIZE
PEER_TIMEOUT = 5_000
LEAVE_TIMEOUT = 20_000  # a pod that is to end is given 30 s, and then killed
LEAVE_LINGER = 5_000  # of it, after the others are active without us: their Envoys learn it meanwhile

# Outside verification.
MAX_DOCUMENT_SIZE = 64 << 20  # a thousand members with a GPU each take 17
MAX_HISTORY_SIZE = 4 << 20  # of manifests; the oldest are forgotten first
MAX_HISTORY_MESSAGE = 5 << 20  # with what encodes them
MAX_LOG_SIZE = 64 << 20  # of a sidecar, read for a trace
VERIFY_TIMEOUT = 10_000
MAX_HTTP_HEADER = 8 << 10
MAX_STATUS_SIZE = 1 << 20  # bytes: a thousand members of a few hundred each, and what they wait for
LIVE_QUOTES_PER_SECOND = 5
MAX_LIVE_NONCES = 1024  # that one LIVE quote answers
MAX_VISITS = 1024  # meshes that one file of last visits remembers
MAX_VISITS_SIZE = 1 << 20

# The verifier's page: at most 200 kB whatever the mesh (tests/unit/test_outside_page.py), and readable.
MAX_PAGE_SIZE = 200_000
MAX_PAGE_MEMBERS = 24  # with their evidence; the others are counted
MAX_PAGE_ROLES = 24  # of the graph and its table
MAX_PAGE_EDGES = 72  # of the graph
MAX_PAGE_MISMATCHES = 24
MAX_PAGE_LIST = 8  # entries of one list: addresses, advisories, devices, ports

# toposeal connect. Times in milliseconds, but for the interval, which people give in seconds.
CONNECT_INTERVAL = 60  # between two verifications: each costs the mesh one LIVE quote
CONNECT_INTERVALS = (5, 3_600)
CONNECT_GRACE = (
    15_000  # beyond the interval, for a verification that is under way: VERIFY_TIMEOUT, and a name
)
CONNECT_RETRY = 5_000  # after a verification that failed, and at least between two that connections ask for
CONNECT_SWEEP = 500  # between two looks at what is due, and at who is listed no longer
MAX_LOCAL_CONNECTIONS = 256  # at once; each may hold 400 KiB, both ways, of slow readers
LOCAL_CHUNK = 64 << 10

# Ports and addresses of the pod. 15000-15499 are the sidecar's; a topology may not use them.
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
DNS_PORT = 15053
PEER_PORT = 15443
RESERVED_PORTS = range(15000, 15500)
ENVOY_UID = 1337
DAEMON_UID = 1338
PROBE_UID = 1339
STRANGER_UID = 65_534  # nobody: an ordinary user for tests of what one may do
VIP_NETWORK = "240.10.0.0/16"
PROBE_ADDRESS = "240.10.255.254"
PROBE_PORT = 15007
DNS_TTL = 5  # seconds

# Envoy: the oldest patch of each line with the security fixes that were published when this was written.
# 1.36 has one too, but not tcp_proxy's upstream_connect_mode, which our inbound chains need.
ENVOY_FLOOR = ((1, 37, 6), (1, 38, 4), (1, 39, 1))

# Certificates. Times in seconds.
MAX_CA_LIFETIME = 731 * 86_400  # one boot; long enough for any, the manifest is what ends trust
CLOCK_SKEW = 3_600  # certificates start this much earlier: pods' clocks differ

# Topology: single fields and files.
POD_DNS_PORT = 53  # the pod's own resolver answers it on every address, so no role can
MAX_TOPOLOGY_ENVELOPE_SIZE = 2 << 20  # base64 of a payload, and its signatures
MAX_OWNER_ROOT_SIZE = 64 << 10
MAX_KEY_FILE_SIZE = 16 << 10
MAX_CALLS_PER_ROLE = 256
MAX_ADVISORIES = 256
MAX_SEAM_MODULES = 64
MAX_TCB_EVALUATION = (1 << 31) - 1  # a u32 in Intel's collateral, kept clear of sign trouble
MAX_TIME = 253_402_300_799  # seconds: the last one of year 9999, so that RFC 3339 can write it
MAX_VERSION_STEP = 1 << 20  # a dated version (20260101) may skip a year; burning 2^53 needs 2^33 steps
MAX_TOPOLOGY_PUSH = MAX_ENVELOPE_SIZE - 16  # bytes: in one envelope of the peer link, so that it can spread
TOPOLOGY_PUSHES_PER_SECOND = 10  # of one member, by anybody: each costs milliseconds, mostly to be refused
TOPOLOGY_PUSHES_AT_ONCE = 4  # bodies in memory
MAX_MISMATCHES = 64  # in one refusal: enough to repair a file, too few to flood a log
TIMER_BOUNDS = {  # milliseconds; the defaults are model.Timers
    "view_ms": (50, 600_000),
    "quote_ms": (1_000, 600_000),  # a quote takes 40 ms, over 1 s through some stacks
    "ping_ms": (100, 60_000),
    "attempt_ms": (1_000, 3_600_000),
    "heartbeat_ms": (100, 60_000),
    "lease_ms": (1_000, 600_000),
    "reattest_ms": (5_000, 7 * 86_400_000),
    "quorum_ms": (1_000, 7 * 86_400_000),
    "topology_ms": (1_000, 7 * 86_400_000),
    "leaf_lifetime_ms": (10_000, 30 * 86_400_000),  # half of it leaves time for an acknowledged update
}

# Envoy. Times in milliseconds.
MAX_ENVOY_CONNECTIONS = 40_000  # downstream; each costs about 20 KiB and two descriptors
# Of them: what programs of the pod open, and what comes in. A flood of one kind leaves the other alone.
MAX_OUTBOUND_CONNECTIONS = 6_000
MAX_INBOUND_CONNECTIONS = 34_000  # with those whose handshake is not over: at least 3,700 at any time
# Of those that come in, counted after the handshake, so that nobody uses up the share of another's name:
MEMBER_CONNECTIONS = 20_000  # of all members at all served ports: 1,400 each for one client of 14 ports
MIN_MEMBER_CONNECTIONS = 64  # of one at one port: the pool of a busy client, on however many ports
MAX_MEMBER_SHARES = 64  # of one port: each costs Envoy 50 KiB. Where more may call, they have these together
INGRESS_CONNECTIONS = 10_000  # of all outside clients at all ingress ports
ATTESTATION_CONNECTIONS = 256  # of all verifiers: an answer takes milliseconds, and five a second are made
PROBE_CONNECTIONS = 16  # of the pod to itself; one is used
CONNECTION_BUFFER = 64 << 10  # bytes that wait in each direction of a connection whose reader is slow
ENVOY_HEAP = 4 << 30  # 40,000 connections of slow readers would take 6 GiB; idle ones take 0.8
HEAP_SHRINKS = 0.85  # parts of it, above which Envoy gives back what it does not use,
HEAP_REFUSES = 0.95  # and above which it lets nobody in until others have gone
OVERLOAD_REFRESH = 250
TLS_INSPECTION_TIMEOUT = 5_000  # a client that sends no ClientHello
TLS_HANDSHAKE_TIMEOUT = 5_000
CONNECT_TIMEOUT = 3_000  # one attempt to one endpoint
CONNECT_ATTEMPTS = 3  # other endpoints are tried before the application sees a failure
PROXY_IDENTITY_TYPE = 0xE0  # SPIFFE ID; of what PROXY protocol, 2.2.7, leaves to applications: 0xE0 to 0xEF

# Ports that speak HTTP. A connection that carries no request just now is in nobody's share, so it does not
# last: in both times together Envoy cannot do as many handshakes as MAX_INBOUND_CONNECTIONS.
HTTP_CONNECTION_LIFE = 5_000  # then it ends with the requests that it carries, however long they take
HTTP_IDLE = 5_000
HTTP_DRAIN = 1_000  # from the word that it ends until it takes no more requests
HTTP_HEADERS_TIMEOUT = 5_000  # from the first byte of a request that comes in to the end of its headers
HTTP_POOL_IDLE = 4_000  # the caller closes first, so that no request meets a connection that is being closed
APPLICATION_POOL_IDLE = 1_000  # likewise: servers keep idle connections for 2 s (gunicorn) or longer
HTTP_HEADERS_KIB = 60  # of a request or an answer; Envoy's default, which is above any server's
MAX_HTTP_FIELDS = 100  # headers of either, likewise
MAX_HTTP_STREAMS = 100  # at once on one HTTP/2 connection; a caller's Envoy opens further connections
HTTP_CONNECTION_WINDOW = 1 << 20  # bytes of one HTTP/2 connection, all streams together, that nobody has read
MAX_CLUSTER_CONNECTIONS = 100_000  # Envoy's default of 1024 would show to the application
ENVOY_READY_TIMEOUT = 10_000  # it needs 60 ms; a machine may be slow, not silent
ENVOY_ACK_TIMEOUT = 10_000  # one update at 1000 members takes 0.3 s
MAX_DISCOVERY_REQUEST = 1 << 20  # Envoy's first one lists all that it is built of
MAX_DISCOVERY_NAMES = 16  # of secrets; there are two
ENVOY_POLL = 5  # between two looks at whether Envoy is ready, or still prepares something
PROBE_TIMEOUT = 5_000
RENDER_TIMEOUT = 30_000
MAX_FORMS_SIZE = 16 << 20  # of what the renderer's child makes of a topology
MAX_ADMIN_ANSWER = 4 << 20
MAX_LOG_LINES = 50  # of Envoy's last words, kept for the reason of a failure
MAX_LOG_LINE = 2_000
ROTATION_RETRY = 1_000  # after a leaf that Envoy did not take
ENVOY_ADMIN_TIMEOUT = 2_000
ENVOY_WATCH = 2_000  # between two looks at whether Envoy still answers; one costs the daemon under 1 ms
ENVOY_SILENCES = 2  # looks in a row without an answer, and Envoy hangs: one may fall into a pause of the VM
ENVOY_STUCK = (
    10_000  # a thread of Envoy's that does not turn its loop for so long ends it; updates take 0.3 s
)
MAX_ENVOY_RESTARTS = 5  # a crash that comes back more often than this is no accident, or somebody's doing
RESTART_PERIOD = 3_600_000
RESTART_PAUSE = 500  # the first; it doubles: 15.5 s for all of them

# The pod's DNS. At this rate it takes a fifteenth of a core; a flood gets no more.
MAX_DNS_QUERIES_PER_SECOND = 5_000  # an application that looks up twice for each of 2,500 connections
MAX_DNS_CONNECTIONS = 32  # TCP; resolvers use it only when UDP fails
MAX_DNS_MESSAGE = 4_096  # over TCP; questions of this mesh need less than 150
DNS_IDLE_TIMEOUT = 5_000  # milliseconds

# SNP endorsements: one machine's certificate, its CA, the root.
MAX_AMD_CERTIFICATE_SIZE = 4 << 10  # genuine ones take 1.4 to 1.7 KiB
MAX_AMD_CHAIN_LENGTH = 4  # in one PEM file
MAX_CRL_SIZE = 64 << 10  # AMD's name CA certificates alone, of which there are a few
MAX_CERTIFICATE_TABLE_SIZE = 32 << 10  # the kernel's own cap on auxblob (linux report.c)
MAX_CERTIFICATE_TABLE_ENTRIES = 8

# What else evidence carries.
MAX_RTMR3_EVENTS = 256  # a guest that measures every container start stays below
MAX_GPUS = 16  # of one pod: the largest machines have 8, or 16 with their switches
MAX_GPU_REPORT_SIZE = 32 << 10  # genuine ones take 4 to 8 KiB
MAX_GPU_CHAIN_SIZE = 16 << 10
MAX_CSP_IDS = 16
MAX_CRLS = 6  # two for each product: of ASK and of ASVK

# Event logs. What firmware reserves for one is 64 or 256 KiB; real ones use 5 to 30 of it.
MAX_EVENT_LOG_SIZE = 512 << 10
MAX_LOGGED_EVENTS = 1_024  # real logs have 30 to 150; a GPU node's with measured containers some hundreds
MAX_EVENT_LOGS = 3  # for one quote: of the boot, of the runtime, and one to spare
MAX_LOG_ALGORITHMS = 8

# Vendors' services. Times in milliseconds.
MAX_VENDOR_ANSWER = 128 << 10  # real TCB info takes 7 KiB, a PCK revocation list 3 KiB
MAX_VENDOR_HEADER = 32 << 10  # issuer chains come in a header, URL-encoded: 5 KiB
MAX_VENDOR_URL = 512
VENDOR_TIMEOUT = 15_000  # one attempt: AMD's service has been seen to take several seconds
VENDOR_ATTEMPTS = 4
VENDOR_BACKOFF = 1_000  # first pause; it doubles, with jitter
MAX_VENDOR_PAUSE = 30_000  # at most this much of what Retry-After asks for
MAX_BUNDLE_SIZE = 4 << 20  # 16 entries of TDX at their largest, or 256 chips
MAX_BUNDLE_ENDORSEMENTS = 256
MAX_CACHED_FILES = 512  # of collateral: every file is at most MAX_COLLATERAL_SIZE
MAX_MARKS = 1024  # platform families and list issuers: the vendors have a few dozen
MAX_MARKS_SIZE = 256 << 10
COLLATERAL_REFRESH = 12 * 3_600_000  # collateral in force is asked for anew this often
COLLATERAL_WAIT = 20_000  # at start, for the first answers; without them the member is refused by itself
COLLATERAL_RETRY = 60_000  # first pause after a failed refresh; it doubles up to COLLATERAL_REFRESH

MAX_REMEMBERED_VERDICTS = 1_024  # of about 2 KiB: JOIN and SEAL of every member of a large mesh

# NVIDIA's reference manifests (RIM): genuine ones take 20 KiB.
MAX_RIM_SIZE = 64 << 10
MAX_RIMS = 4  # for one device: of its driver, of its VBIOS, and some to spare

# Refused connections: so many are told each second, all are counted.
MAX_REFUSALS_PER_SECOND = 20
MAX_TOLD_REQUESTS_PER_SECOND = 100  # of those that a port logs; all are counted
ACCESS_LOG_FLUSH = 250  # milliseconds until a line that Envoy has is on its way

# Probes of the kubelet. Times in milliseconds.
MAX_PROBES_PER_ROLE = 8
PROBED_EVERY = 2_000  # how often Envoy asks the application, whoever asks Envoy
PROBED_AGAIN = 1_000  # while it does not answer well
PROBE_PATIENCE = 1_000

# What is asked in clear, by a kubelet or Prometheus.
MAX_CLEAR_HEADERS = 8  # KiB; a kubelet sends 200 bytes
CLEAR_CLIENT_TIMEOUT = 5_000  # milliseconds

# Metrics. Times in milliseconds.
METRICS_PER_SECOND = 5  # requests at one pod's port, whoever makes them; Prometheus asks twice a minute
MAX_METRICS_REQUESTS = 4  # at once
METRICS_TIMEOUT = 5_000

# The application's identity (SPIFFE Workload API). One process needs one connection and one or two streams.
MAX_WORKLOAD_CONNECTIONS = 64
MAX_WORKLOAD_STREAMS = 64  # of all connections together: each may hold one response, 2 MiB at 1000 members
MAX_WORKLOAD_REQUEST = 4 << 10  # a request says nothing
WORKLOAD_TIMEOUT = 5_000  # milliseconds until a connection has to speak HTTP/2

# Egress. Times in milliseconds.
MAX_EGRESS_PER_ROLE = 64
MAX_EGRESS_RANGES = 16  # that one host's addresses may be of
MAX_EGRESS_CAS = 8
MAX_EGRESS_CA_SIZE = 16 << 10
MAX_EGRESS_ADDRESSES = 16  # of one host; more are left out
EGRESS_TTL = (30_000, 300_000)  # how soon and how late a host is asked for again, whatever its answer says
EGRESS_RETRY = 5_000  # after a host that nobody answers for; first pause after an update that failed
DNS_ANSWER_TIMEOUT = 2_000  # of one server
MAX_DNS_ANSWER = 4_096  # as much is asked for by EDNS; more comes over TCP
MAX_NAMESERVERS = 3  # as resolv.conf(5)

# Kubernetes.
MAX_INITDATA_SIZE = 1 << 20
MAX_INITDATA_VALUE = 200 << 10  # characters; Kubernetes takes 256 KiB of annotations for one object
MAX_MANIFEST_FILE = 4 << 20
MAX_MANIFEST_DOCUMENTS = 1_000
MAX_MANIFEST_DEPTH = 64  # pods have 15
MAX_MANIFEST_NODES = 500_000  # of one document, aliases written out
MAX_POLICY_PARTS = 4_096  # rules, peers and ports of all NetworkPolicies: each is held against every role
MAX_ADMISSION_REVIEW = 4 << 20  # an API server takes 3 MiB for one object, and says a little around it
MAX_ADMISSION_REQUESTS = 16  # at once
ADMISSION_TIMEOUT = 10_000  # milliseconds of one request; the API server is told to wait as long
ADMISSION_RELOAD = 60_000  # until a certificate that was renewed is used
