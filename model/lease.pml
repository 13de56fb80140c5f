/*
 * How long a member that the next manifest leaves out goes on serving.
 *
 * Members 0, 1 and 2 are active on A. 0 and 1 (a majority) seal X, the child without 2. Time is counted in ticks of
 * one member's own clock; a lease lasts LEASE ticks from when its holder sent the nonce that came back signed.
 * The network delivers or loses what it likes; nobody tells member 2 anything about X.
 * L3: LEASE ticks after X has become active anywhere, member 2 does not serve.
 *
 * UNTIL_ACTIVE  a member renews leases under A until it is itself active on X, as long as its peer is in A
 * NO_LEASE      a member serves until it learns that it is left out
 */

#define LEASE 3
#define bit(i)     (1 << (i))
#define has(m, i)  (((m) >> (i)) & 1)

byte sealed, opened;           /* who has sealed X, who is active on it */
byte answered[2];              /* SEALED(X) of the other has arrived */
byte left[2];                  /* ticks that member 2's lease with each has left */
byte age[2];                   /* ticks since member 2 sent the nonce that is under way to each; LEASE: none */
byte since;                    /* ticks since X is active somewhere */

#ifdef UNTIL_ACTIVE
#define renews(i)  (!has(opened, i))
#else
#define renews(i)  (!has(sealed, i))
#endif
#ifdef NO_LEASE
#define serves     true
#else
#define serves     (left[0] > 0 || left[1] > 0)   /* with itself a majority of three */
#endif

inline older(i) {
    left[i] = (left[i] > 0 -> left[i] - 1 : 0);
    age[i] = (age[i] < LEASE -> age[i] + 1 : LEASE)
}

inline tick() {
    older(0); older(1);
    since = (opened != 0 && since < LEASE -> since + 1 : since);
    if
    :: since >= LEASE && serves -> printf("VIOLATION L3 member 2 serves %d ticks after it was left out\n", since); assert(false)
    :: else
    fi
}

/* A heartbeat of member 2 reaches i, and its answer comes back at once or later or never. */
proctype survivor(byte i) {
    do
    :: d_step { age[i] == LEASE -> printf("member 2 sends a nonce to member %d\n", i); age[i] = 0 }
    :: d_step { age[i] < LEASE && renews(i) ->
        printf("member %d renews the lease of member 2\n", i); left[i] = LEASE - age[i]; age[i] = LEASE }
    :: d_step { !has(sealed, i) -> printf("member %d seals X\n", i); sealed = sealed | bit(i) }
    :: d_step { has(sealed, 1 - i) && !answered[i] -> printf("SEALED of member %d reaches member %d\n", 1 - i, i); answered[i] = 1 }
    :: d_step { has(sealed, i) && answered[i] && !has(opened, i) -> printf("member %d is active on X\n", i); opened = opened | bit(i) }
    od
}

proctype clock() {
    do
    :: d_step { tick(); printf("a tick\n") }
    od
}

init {
    atomic {
        left[0] = LEASE; left[1] = LEASE; age[0] = LEASE; age[1] = LEASE;
        run survivor(0); run survivor(1); run clock()
    }
}
