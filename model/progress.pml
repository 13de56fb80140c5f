/*
 * Whether the members of an active mesh always reach the next one, once faults stop.
 *
 * All of HELLO, PROPOSE, COMMIT, certificate and SEALED. Faults are given up front: FAULTS times a member gives an
 * attempt up although it could succeed, or does not see a live candidate; CRASHES times one dies, CUTS times one is
 * cut off for a while. A real timer fires only when nothing else can happen. Epochs only rise and no step is taken
 * back, so that every run ends, and the question is where: all live members active on one manifest, or too few of them alive for any (check 9).
 *
 * NO_ADOPTION     a member takes nobody's certificate
 * NO_PROPOSE      a member commits to what it built, without awaiting PROPOSE of the others
 * BINDING         an adopted certificate binds: only a child of it can be adopted afterwards
 * LOWEST          among several certificates a member takes the lowest epoch
 * DEAD_END        it does so although too few are alive for a child of it
 * WAITS           who has sealed waits for SEALED for ever, and begins no further attempt
 * NO_LEASES       an active member does not notice that another is dead
 * NO_FOLLOWING    a HELLO of a higher epoch moves nobody
 */

#ifndef MEMBERS
#define MEMBERS 3
#endif
#ifndef ROOT
#define ROOT 7
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef CUTS
#define CUTS 0
#endif
#ifndef EPOCHS
#define EPOCHS 9
#endif
#define SLOTS 12

#define bit(i)     (1 << (i))
#define has(m, i)  (((m) >> (i)) & 1)
#define count(m)   (has(m, 0) + has(m, 1) + has(m, 2) + has(m, 3))
#define majority(set, k)  (2 * count((set) & members[k]) > count(members[k]))

/* Manifests, in the order of their first PROPOSE; 0 is active at the start. */
byte manifests = 1;
byte epoch[SLOTS], members[SLOTS], previous[SLOTS], commits[SLOTS], seals[SLOTS];
#define certified(k)  (commits[k] == members[k])
#define active(k)     (seals[k] == members[k])

#define IDLE 0
#define GATHERING 1
#define PROPOSED 2
#define COMMITTED 3
#define SEALED 4
byte phase[MEMBERS], target[MEMBERS], mine[MEMBERS]; /* HELLO's epoch; what was proposed or committed to */
byte stands[MEMBERS];                                /* last sealed */
byte head[MEMBERS];                                  /* `previous` of its next attempt, in its HELLO */
byte serves[MEMBERS];                                /* the manifest that it is active on */
byte live = bit(MEMBERS) - 1;
byte cut;                                            /* a member that no message reaches or leaves */
byte faults = FAULTS, crashes = CRASHES, cuts = CUTS;

/* What each may do now. Follows from the above; updated by review(). */
#define ADOPT    1
#define FOLLOW   2
#define PROPOSE  4
#define COMMIT   8
#define SEAL     16
#define ACTIVATE 32
#define FENCE    64
#define TIMER    128
byte may[MEMBERS];
byte best[MEMBERS];  /* the certificate to adopt */
byte seen[MEMBERS];  /* the candidates */
byte next[MEMBERS];  /* the epoch of its next HELLO */
bool quiet;

/* Scratch of one step: zero between steps. */
byte a, i, j, k, s, top, d;
byte yes, wait;

/* Whom i can exchange messages with. */
#define sees(i, j)  (has(live, j) && ((i) == (j) || !has(cut, i) && !has(cut, j)))
#define lost(i)     ((members[serves[i]] & ~live) != 0 || has(cut, i) || (members[serves[i]] & cut) != 0)

/* yes: is x y, or an ancestor of y? */
inline is_above(x, y) {
    a = y;
    do
    :: a == x -> yes = true; break
    :: a != x && a == 0 -> yes = false; break
    :: else -> a = previous[a]
    od
}

#define gathers(j)  (phase[j] == GATHERING || phase[j] == PROPOSED)

#define decided(j)  (phase[j] == COMMITTED || phase[j] == SEALED)

/* Candidates have the same epoch and the same `previous`, and have not committed to a manifest without us. wait: one more live member may still come to them. */
inline look() {
    s = 0; wait = false;
    for (j : 0 .. MEMBERS - 1) {
        if
        :: !sees(i, j)
        :: sees(i, j) && target[j] == target[i] && head[j] == head[i] && gathers(j) -> s = s | bit(j)
        :: sees(i, j) && target[j] == target[i] && decided(j) && has(members[mine[j]], i) && previous[mine[j]] == head[i] ->
            s = s | bit(j)
        :: else ->
            is_above(stands[j], head[i]);
            wait = wait || yes && (target[j] < target[i] || target[j] == target[i] && gathers(j))
        fi
    }
}

/* yes: check 9 holds for a child of h with the members s. */
inline check9(h) {
    a = h;
    do
    :: !majority(s, a) -> yes = false; break
    :: majority(s, a) && active(a) -> yes = true; break
    :: else -> a = previous[a]
    od
}

/* yes: all live members that have sealed nothing beside h would do for a child of h. */
inline is_feasible(h) {
    s = 0;
    for (j : 0 .. MEMBERS - 1) {
        if
        :: sees(i, j) -> is_above(stands[j], h); s = s | (yes << j)
        :: else
        fi
    }
    check9(h)
}

/* yes: the certificate of h can be had from a live member. */
inline is_known(h) {
    yes = false;
    for (j : 0 .. MEMBERS - 1) {
        yes = yes || sees(i, j) && (head[j] == h || stands[j] == h)
    }
}

#ifdef BINDING
#define from(i)  head[i]
#else
#define from(i)  stands[i]
#endif
#ifdef LOWEST
#define better(x, y)  (epoch[x] < epoch[y])
#else
#define better(x, y)  (epoch[x] > epoch[y])
#endif

/* Of the certificates that continue what i has sealed, the one of the highest epoch under which enough are alive. */
inline choose_head() {
    best[i] = stands[i];
#ifdef NO_ADOPTION
    skip
#else
#ifdef BINDING
    best[i] = head[i];
#endif
    for (k : 0 .. manifests - 1) {
        is_above(from(i), k);
        if
        :: yes && k != best[i] && certified(k) && (best[i] == stands[i] || better(k, best[i])) ->
            is_known(k);
            wait = yes;
#ifndef DEAD_END
            is_feasible(k);
#endif
            if :: yes && wait -> best[i] = k :: else fi
        :: else
        fi
    }
#endif
}
/* The highest epoch that another is still gathering in, or one above what others have finished. */
inline choose_epoch() {
    next[i] = target[i];
    for (j : 0 .. MEMBERS - 1) {
        if
        :: sees(i, j) && j != i && gathers(j) && target[j] > next[i] -> next[i] = target[j]
        :: sees(i, j) && j != i && !gathers(j) && target[j] >= next[i] && target[j] > target[i] -> next[i] = target[j] + 1
        :: else
        fi
    }
}

/* A listed member with a HELLO of a higher epoch that has not sealed never will. */
inline is_hopeless() {
    yes = false;
    for (j : 0 .. MEMBERS - 1) {
        yes = yes || sees(i, j) && has(members[d], j) && target[j] > target[i] && !has(seals[d], j)
    }
}

/* Another child of an ancestor of ours has become active. */
inline is_passed() {
    wait = false;
    for (k : 1 .. manifests - 1) {
        if
        :: active(k) ->
            is_above(k, stands[i]);
            if
            :: yes
            :: else -> is_above(stands[i], k); wait = wait || !yes
            fi
        :: else
        fi
    }
}

inline all_propose() {
    yes = true;
    for (j : 0 .. MEMBERS - 1) {
        yes = yes && (!has(members[d], j) || mine[j] == d)
    }
}

inline consider() {
    may[i] = 0; seen[i] = 0;
    d = mine[i];
    choose_head(); choose_epoch(); look();
    if
    :: phase[i] == IDLE || gathers(i) ->
        if :: best[i] != head[i] -> may[i] = may[i] | ADOPT :: else fi;
#ifndef NO_FOLLOWING
        if :: next[i] > target[i] -> may[i] = may[i] | FOLLOW :: else fi;
#endif
        check9(head[i]);
        seen[i] = s;
        if
        :: gathers(i) && yes && !wait && may[i] == 0 && (d == 0 || members[d] != s) -> may[i] = may[i] | PROPOSE
        :: else
        fi
    :: else
    fi;
    if
    :: phase[i] == PROPOSED ->
        all_propose();
#ifdef NO_PROPOSE
        yes = true;
#endif
        if :: yes -> may[i] = may[i] | COMMIT :: else fi
    :: phase[i] == COMMITTED ->
        if :: certified(d) -> may[i] = may[i] | SEAL :: else fi;
        is_hopeless();
        if :: yes -> may[i] = may[i] | FOLLOW :: else fi
    :: phase[i] == SEALED ->
        if :: active(d) -> may[i] = may[i] | ACTIVATE :: else fi;
        is_hopeless();
#ifdef WAITS
        yes = false;
#endif
        if :: yes -> may[i] = may[i] | FOLLOW :: else fi
    :: else
    fi;
    is_passed();
    if :: wait && !has(cut, i) -> may[i] = may[i] | FENCE :: else fi
}

/* Whose attempt is open though nothing can happen, or whose lease with a dead member has run out: its timer fires. */
inline consider_timer() {
    yes = phase[i] == PROPOSED || phase[i] == COMMITTED;
#ifndef WAITS
    yes = yes || phase[i] == SEALED;
#endif
#ifndef NO_LEASES
    yes = yes || phase[i] == IDLE && lost(i);
#endif
    for (j : 0 .. MEMBERS - 1) {
        yes = yes || sees(i, j) && phase[i] == GATHERING && target[j] >= target[i] && !gathers(j)
    }
    if :: yes -> may[i] = TIMER; quiet = false :: else fi
}

/*
 * L1: all live members are active on one manifest, or the rules admit no child of any certified manifest.
 * Quotes: while nobody gives up or dies, a commitment is never for nothing.
 */
inline check_end() {
    top = SLOTS;
    wait = true;
    for (j : 0 .. MEMBERS - 1) {
        if
        :: has(live, j) && top == SLOTS -> top = serves[j]
        :: has(live, j) && top != SLOTS -> wait = wait && serves[j] == top
        :: else
        fi
    }
    for (k : 0 .. manifests - 1) {
        if
        :: certified(k) && !(wait && top != 0) ->
            is_feasible(k);
            if
            :: yes -> printf("VIOLATION L1 nothing more happens, though #%d could have a child\n", k); assert(false)
            :: else
            fi
#ifdef OVERLOOK_ONLY
        :: !certified(k) && commits[k] != 0 ->
            printf("VIOLATION L4 a quote for #%d is wasted\n", k);
            assert(false)
#endif
        :: else
        fi
    }
}

inline forget() { a = 0; i = 0; j = 0; k = 0; s = 0; top = 0; d = 0; yes = 0; wait = 0 }

inline review() {
    quiet = true;
    for (i : 0 .. MEMBERS - 1) {
        may[i] = 0;
        if :: has(live, i) -> consider(); quiet = quiet && may[i] == 0 :: else fi
    }
    if
    :: quiet ->
        for (i : 0 .. MEMBERS - 1) {
            if :: has(live, i) -> consider_timer() :: else fi
        }
        if :: quiet && cut == 0 -> check_end() :: else fi
    :: else
    fi
}

inline begin(me, number) {
    target[me] = number; phase[me] = GATHERING; mine[me] = 0;
    printf("member %d HELLO epoch %d previous #%d\n", me, number, head[me]);
    assert(number < EPOCHS)
}

/* One above everything that was seen. */
inline raise(me) {
    top = 0;
    for (j : 0 .. MEMBERS - 1) {
        if :: sees(me, j) && target[j] > top -> top = target[j] :: else fi
    }
    begin(me, top + 1)
}

inline propose(me, set) {
    k = 1;
    do
    :: k < manifests && !(epoch[k] == target[me] && members[k] == (set) && previous[k] == head[me]) -> k++
    :: else -> break
    od;
    if
    :: k == manifests ->
        assert(manifests < SLOTS);
        epoch[k] = target[me]; members[k] = (set); previous[k] = head[me];
        printf("MANIFEST #%d epoch %d members %d previous #%d\n", k, epoch[k], members[k], previous[k]);
        manifests++
    :: else
    fi;
    printf("member %d proposes #%d\n", me, k);
    mine[me] = k; phase[me] = PROPOSED
}

#define overlooks(other) \
    :: d_step { faults > 0 && (may[me] & PROPOSE) && other != me && has(seen[me], other) -> \
        i = me; s = seen[me] & ~bit(other); \
        check9(head[me]); \
        if \
        :: yes -> printf("FAULT member %d does not see member %d\n", me, other); propose(me, seen[me] & ~bit(other)) \
        :: else \
        fi; \
        faults--; review(); forget() }

proctype member(byte me) {
    do
    :: d_step { may[me] & ADOPT ->
        printf("member %d adopts #%d\n", me, best[me]);
        head[me] = best[me];
        if :: phase[me] == PROPOSED -> phase[me] = GATHERING; mine[me] = 0 :: else fi;
        review(); forget() }
    :: d_step { may[me] & FOLLOW ->
        begin(me, next[me]); review(); forget() }
    :: d_step { may[me] & PROPOSE ->
        propose(me, seen[me]); review(); forget() }
    :: d_step { may[me] & COMMIT ->
        printf("member %d commits to #%d\n", me, mine[me]);
        commits[mine[me]] = commits[mine[me]] | bit(me); phase[me] = COMMITTED;
        review(); forget() }
    :: d_step { may[me] & SEAL ->
        printf("member %d seals #%d\n", me, mine[me]);
        seals[mine[me]] = seals[mine[me]] | bit(me); phase[me] = SEALED; stands[me] = mine[me]; head[me] = mine[me];
        review(); forget() }
    :: d_step { may[me] & ACTIVATE ->
        printf("member %d is active on #%d\n", me, mine[me]);
        serves[me] = mine[me]; phase[me] = IDLE;
        review(); forget() }
    :: d_step { may[me] & FENCE ->
        printf("member %d fences: a sibling is active\n", me);
        live = live & ~bit(me);
        review(); forget() }
    :: d_step { may[me] & TIMER ->
        printf("member %d gives up after its time\n", me);
        raise(me); review(); forget() }
#ifndef OVERLOOK_ONLY
    :: d_step { faults > 0 && has(live, me) && phase[me] != IDLE && phase[me] != GATHERING ->
        printf("FAULT member %d gives up too early\n", me);
        faults--; raise(me); review(); forget() }
#endif
    overlooks(0)
    overlooks(1)
    overlooks(2)
#if MEMBERS == 4
    overlooks(3)
#endif
    :: d_step { cuts > 0 && cut == 0 && has(live, me) ->
        printf("FAULT member %d is cut off\n", me);
        cuts--; cut = bit(me); review(); forget() }
    :: d_step { cut == bit(me) ->
        printf("member %d is back\n", me);
        cut = 0; review(); forget() }
    :: d_step { crashes > 0 && has(live, me) ->
        printf("FAULT member %d dies\n", me);
        crashes--; live = live & ~bit(me); mine[me] = 0;
        review(); forget() }
    od
}

init {
    atomic {
        members[0] = ROOT; seals[0] = ROOT; commits[0] = ROOT;
        begin(0, 1);
        review();
        forget();
        run member(0); run member(1); run member(2);
#if MEMBERS == 4
        run member(3)
#endif
    }
}
