/*
 * toposeal-wait: runs a command once the pod's network is open, and never before.
 *
 *     toposeal-wait [--timeout SECONDS] -- COMMAND [ARGUMENT ...]
 *
 * For an application's container whose measured policy pins this command. It needs no volume, no credential, no
 * capability and no other file; all that it trusts is the kernel of its own pod. The pod is open when, in this order,
 *
 *   1. the only socket that listens at 127.0.0.1:15001 in this network namespace is uid 1337's, Envoy's;
 *   2. no interface sends an empty datagram, and the rules refuse one (EPERM): the egress wall stands for this user;
 *   3. a connection to the probe's address is answered with 32 bytes and an end. The gate opened that way: through
 *      redirect, Envoy, mutual TLS with itself and the daemon. A closed or suspended Envoy ends it without a byte;
 *   4. the other end of that connection is a socket of this network namespace, at 127.0.0.1:15001.
 *
 * 1 comes first so that nothing is sent where no sidecar is. 1 and 4 are why nobody on the network can answer: the
 * kernel says who did. Not proven: that uid 1337 is Envoy (the policy's work, SECURITY.md "Start order"), and anything
 * about the time after the command has started, when the gate alone decides.
 *
 * Exit codes: 1 usage, 3 not open in time, 126 the command cannot be run, 127 there is none, 128 + n signal n.
 * Arguments, environment, open files and ignored signals are handed on as they are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A test compares these with toposeal.limits. */
#define PROBE_ADDRESS "240.10.255.254"
enum {
    PROBE_PORT = 15007,
    OUTBOUND_PORT = 15001,
    ENVOY_UID = 1337,
    PROBE_UID = 1339,
    NONCE_SIZE = 32,
    PROBE_TIMEOUT = 5000, /* ms */
};

#define EXAMPLE_ADDRESS 0xc0000201U /* 192.0.2.1, which is nobody's (RFC 5737) */
#define NEIGHBOUR "fe80::f00a:fffe"
#define INTERFACES "/proc/self/net/dev"
#define SOCKETS "/proc/self/net/tcp"
#define LISTENING 0x0a
#define AGAIN_MS 250
#define LONGEST_TIMEOUT 604800 /* s: a week */

enum { USAGE = 1, NOT_IN_TIME = 3, CANNOT_RUN = 126, NO_COMMAND = 127, SIGNALLED = 128 };

enum state { NO_ENVOY, NO_WALL, NO_ANSWER, NOT_ENVOYS, OPEN };

static const char *const told[] = {
    [NO_ENVOY] = "no sidecar yet: by " SOCKETS " uid 1337 is not the one who listens at 127.0.0.1:15001",
    [NO_WALL] = "no lockdown yet: the rules do not refuse what leaves the pod",
    [NO_ANSWER] = "not sealed yet: the data path does not answer",
    [NOT_ENVOYS] = "no redirect: it was not uid 1337 who has answered",
};

struct place {
    uint32_t address; /* network order, as the kernel prints it */
    unsigned port;
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static bool same(struct place one, struct place other)
{
    return one.address == other.address && one.port == other.port;
}

/*
 * What the kernel lists: false unless uid 1337, and nobody else, listens at Envoy's port; with `client`, also unless
 * that port has a connection with it, in whatever state.
 */
static bool envoy_has(const struct place *client)
{
    const struct place envoy = {htonl(INADDR_LOOPBACK), OUTBOUND_PORT};
    bool listens = false, foreign = false, connected = client == NULL;
    struct place local, remote;
    unsigned state, uid;
    char line[512];
    FILE *sockets = fopen(SOCKETS, "re");

    if (sockets == NULL)
        return false;
    while (fgets(line, sizeof line, sockets) != NULL) {
        if (sscanf(line, "%*u: %8x:%4x %8x:%4x %2x %*x:%*x %*x:%*x %*x %u", &local.address, &local.port,
                   &remote.address, &remote.port, &state, &uid) != 6)
            continue;
        if (state == LISTENING && local.port == OUTBOUND_PORT) {
            listens = listens || same(local, envoy);
            foreign = foreign || uid != ENVOY_UID;
        } else if (client != NULL && same(local, envoy) && same(remote, *client)) {
            connected = true;
        }
    }
    fclose(sockets);
    return listens && !foreign && connected;
}

/* The errno of an empty datagram out of the interface, whatever routes there are; 0 if it was sent. */
static int datagram(int family, unsigned interface)
{
    const struct sockaddr_in example = {
        .sin_family = AF_INET, .sin_port = htons(PROBE_PORT), .sin_addr = {htonl(EXAMPLE_ADDRESS)}};
    struct sockaddr_in6 neighbour = {
        .sin6_family = AF_INET6, .sin6_port = htons(PROBE_PORT), .sin6_scope_id = interface};
    const uint32_t out = htonl(interface);
    int error = 0, sock = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sock < 0)
        return errno;
    inet_pton(AF_INET6, NEIGHBOUR, &neighbour.sin6_addr);
    if ((family == AF_INET && setsockopt(sock, IPPROTO_IP, IP_UNICAST_IF, &out, sizeof out) < 0) ||
        sendto(sock, "", 0, MSG_DONTWAIT,
               family == AF_INET ? (const struct sockaddr *)&example : (const struct sockaddr *)&neighbour,
               family == AF_INET ? sizeof example : sizeof neighbour) < 0)
        error = errno;
    close(sock);
    return error;
}

/* Nothing is sent out of any interface, in either family, and at least once it is the rules that refuse. */
static bool wall_stands(void)
{
    bool refused = false, sent = false;
    char line[512], name[IF_NAMESIZE];
    FILE *interfaces = fopen(INTERFACES, "re");

    if (interfaces == NULL)
        return false;
    while (fgets(line, sizeof line, interfaces) != NULL) {
        unsigned interface;
        int ipv4, ipv6;

        if (sscanf(line, " %15[^: ]:", name) != 1 || strcmp(name, "lo") == 0 ||
            (interface = if_nametoindex(name)) == 0)
            continue;
        ipv4 = datagram(AF_INET, interface);
        ipv6 = datagram(AF_INET6, interface);
        refused = refused || ipv4 == EPERM || ipv6 == EPERM;
        sent = sent || ipv4 == 0 || ipv6 == 0;
    }
    fclose(interfaces);
    return refused && !sent;
}

static bool ready(int sock, short events, long long end)
{
    struct pollfd one = {.fd = sock, .events = events};
    long long left = end - now_ms();

    return left > 0 && poll(&one, 1, (int)left) == 1;
}

/* Connects before `end` and reads to the end of the answer: its size, or -1. */
static int answer(int sock, const struct sockaddr_in *probe, long long end)
{
    char read_to[NONCE_SIZE + 1];
    int size = 0, error = 0;
    socklen_t length = sizeof error;
    ssize_t more;

    if (connect(sock, (const struct sockaddr *)probe, sizeof *probe) < 0 && errno != EINPROGRESS)
        return -1;
    if (!ready(sock, POLLOUT, end) || getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error != 0)
        return -1;
    while (size < (int)sizeof read_to) {
        if (!ready(sock, POLLIN, end))
            return -1;
        more = recv(sock, read_to + size, sizeof read_to - (size_t)size, 0);
        if (more <= 0)
            return more == 0 ? size : -1;
        size += (int)more;
    }
    return size;
}

static enum state ask(const struct sockaddr_in *probe, long long end)
{
    enum state found = NO_ANSWER;
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (sock < 0)
        return NO_ANSWER;
    if (answer(sock, probe, end) == NONCE_SIZE && getsockname(sock, (struct sockaddr *)&own, &length) == 0) {
        struct place client = {own.sin_addr.s_addr, ntohs(own.sin_port)};

        found = envoy_has(&client) ? OPEN : NOT_ENVOYS;
    }
    close(sock);
    return found;
}

static enum state look(long long end)
{
    struct sockaddr_in probe = {.sin_family = AF_INET, .sin_port = htons(PROBE_PORT)};
    long long patience = now_ms() + PROBE_TIMEOUT;

    inet_pton(AF_INET, PROBE_ADDRESS, &probe.sin_addr);
    if (!envoy_has(NULL))
        return NO_ENVOY;
    if (!wall_stands())
        return NO_WALL;
    return ask(&probe, end >= 0 && end < patience ? end : patience);
}

/* Waits until the pod is open; false when `end` comes first, which a negative one never does. */
static bool wait_until_open(long long end)
{
    bool said[OPEN] = {false};
    const struct timespec pause = {.tv_nsec = AGAIN_MS * 1000000L};
    enum state found;

    while ((found = look(end)) != OPEN) {
        if (!said[found])
            dprintf(STDERR_FILENO, "toposeal-wait: %s\n", told[found]);
        said[found] = true;
        if (end >= 0 && now_ms() >= end)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static void ends(int number)
{
    _exit(SIGNALLED + number);
}

/* The first process of a container gets no signal that it does not handle. What is ignored stays ignored. */
static void end_by_signals(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    struct sigaction present, handled = {.sa_handler = ends};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &present) == 0 && present.sa_handler != SIG_IGN)
            sigaction(numbers[i], &handled, NULL);
}

static long long seconds(const char *text)
{
    char *rest;
    long number;

    if (*text < '1' || *text > '9')
        return -1;
    errno = 0;
    number = strtol(text, &rest, 10);
    return errno == 0 && *rest == '\0' && number <= LONGEST_TIMEOUT ? number : -1;
}

static int usage(const char *why)
{
    dprintf(STDERR_FILENO, "toposeal-wait: %s\nusage: toposeal-wait [--timeout SECONDS] -- COMMAND [ARGUMENT ...]\n",
            why);
    return USAGE;
}

int main(int count, char **arguments)
{
    long long timeout = -1, end = -1;
    int next = 1;

    if (count > 2 && strcmp(arguments[1], "--timeout") == 0) {
        if ((timeout = seconds(arguments[2])) < 0)
            return usage("SECONDS is a number from 1 to 604800");
        end = now_ms() + timeout * 1000;
        next = 3;
    }
    if (next + 1 >= count || strcmp(arguments[next], "--") != 0)
        return usage("a command after `--`, please");
    if (geteuid() >= ENVOY_UID && geteuid() <= PROBE_UID)
        return usage("uids 1337 to 1339 are the sidecar's");
    end_by_signals();
    if (!wait_until_open(end))
        return NOT_IN_TIME;
    execvp(arguments[next + 1], arguments + next + 1);
    dprintf(STDERR_FILENO, "toposeal-wait: %s: %s\n", arguments[next + 1], strerror(errno));
    return errno == ENOENT ? NO_COMMAND : CANNOT_RUN;
}
