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
 *
 * Of WISHES each may come to want to leave, at any time, as a SIGTERM comes; LARGEST is the most that the bounds allow.
 * UNCOUNTED       a LEAVE is given, and check 9 does not count it
 * FOR_ONE         a LEAVE counts for its manifest, not for those after it
 * UNSEALED        a LEAVE is asked of who has not sealed the predecessor, and may not give it
 * UNASKED         nobody asks for a LEAVE: who leaves goes when no round brings it nearer
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
#ifndef WISHES
#define WISHES 0
#endif
#ifndef LARGEST
#define LARGEST MEMBERS
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
#if WISHES
byte wish;                                           /* who wants to leave */
byte left[MEMBERS];                                  /* the manifest that its LEAVE is for; 0 without one */
byte gives[MEMBERS];                                 /* the one that it may sign LEAVE for now; follows from the rest */
byte parted, asked, all, here, had, b, t;                 /* scratch; asked: whose LEAVE is needed, or NOBODY */
#define NOBODY MEMBERS
#define leaving(j)  has(wish, j)
#define overtakes(i)  (1 - has(wish, i))
#define lingers(i, j)  (i < MEMBERS && left[j] != 0 && epoch[left[j]] == target[i]) /* a lease outlasts its holder */
#define held(k)  (seals[k] != 0) /* of a manifest with one member nobody else has the certificate */
#else
#define leaving(j)  false
#define overtakes(i)  1
#define lingers(i, j)  false
#define held(k)  certified(k)
#endif

/* What each may do now. Follows from the above; updated by review(). */
#define ADOPT    1
#define FOLLOW   2
#define PROPOSE  4
#define COMMIT   8
#define SEAL     16
#define ACTIVATE 32
#define FENCE    64
#define TIMER    128
#define GIVE     256
#define END      512
short may[MEMBERS];
byte best[MEMBERS];  /* the certificate to adopt */
byte seen[MEMBERS];  /* the candidates */
#if WISHES
byte near[MEMBERS];  /* the same with those who are not chosen */
#else
#define near  seen
#endif
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
            wait = wait || yes && !leaving(j) && (target[j] < target[i] || target[j] == target[i] && gathers(j))
        fi
    }
}

#if WISHES
#define counted  (s | parted)
/* parted: who has left to h or to one that h descends from. */
inline sum_leaves(h) {
    parted = 0;
    for (b : 0 .. MEMBERS - 1) {
        if
#if !defined(UNCOUNTED) && !defined(FOR_ONE)
        :: left[b] != 0 -> is_above(left[b], h); parted = parted | (yes << b)
#endif
        :: else
        fi
    }
}
#else
#define counted  s
#define sum_leaves(h)  skip
#endif

/* yes: check 9 holds for a child of h with the members s. */
inline check9(h) {
    sum_leaves(h);
    a = h;
    do
    :: !majority(counted, a) -> yes = false; break
    :: majority(counted, a) && active(a) -> yes = true; break
    :: else -> a = previous[a]
    od
}

#if WISHES
/* s: of `whom`, up to LARGEST, members of h first. */
inline keep_bounds(whom, h) {
    s = 0;
    for (b : 0 .. 2 * MEMBERS - 1) {
        t = b % MEMBERS;
        if
        :: has(whom, t) && has(members[h], t) == (b < MEMBERS) && count(s) < LARGEST -> s = s | bit(t)
        :: else
        fi
    }
}

/* Who can sign a LEAVE for a child of h that i is about, or has. */
#ifdef UNSEALED
#define has_sealed(j, h)   true
#else
#define has_sealed(j, h)   (stands[j] == h)
#endif
#define parts(i, j, h)  (has(wish, j) && has_sealed(j, h) && (left[j] == 0 && sees(i, j) || left[j] != 0 && epoch[left[j]] == target[i]))

/*
 * Of the candidates s: who stays, and of those who leave as few as check 9 needs, of members of h alone. Where h has
 * two members or one and that brings nobody nearer, who stays with the LEAVE of `asked`. yes: there is a choice.
 */
inline choose(h) {
    all = s; asked = NOBODY; yes = false; here = 0;
    if
    :: (all & ~wish) != 0 ->
        here = all & ~wish;
        keep_bounds(here, h);
        check9(h);
        for (k : 0 .. MEMBERS - 1) {
            if
            :: !yes && has(all & wish & members[h], k) -> here = here | bit(k); keep_bounds(here, h); check9(h)
            :: else
            fi
        }
#ifndef UNASKED
        if
        :: count(members[h]) <= 2 && (!yes || s == members[h]) ->
            here = s; had = yes;
            for (k : 0 .. MEMBERS - 1) {
                if
                :: asked == NOBODY && parts(i, k, h) && has(members[h], k) ->
                    keep_bounds(all & ~wish, h);
                    s = s | bit(k);
                    check9(h);
                    if :: yes -> asked = k :: else fi
                :: else
                fi
            }
            if
            :: asked != NOBODY -> keep_bounds(all & ~wish, h); yes = true
            :: else -> s = here; yes = had
            fi
        :: else
        fi
#endif
    :: else
    fi
}

/* Whom the next manifest would list, to who rests on an active one: s, if yes. */
inline look_ahead() {
    s = 0;
    for (j : 0 .. MEMBERS - 1) {
        if
        :: sees(i, j) && (has(members[stands[i]], j) || head[j] == stands[i]) -> s = s | bit(j)
        :: else
        fi
    }
    choose(stands[i])
}

/* yes: check 9 holds for d, with the LEAVE that was signed for it. */
inline check9_with_leave() {
    s = members[d];
#ifndef UNCOUNTED
    for (j : 0 .. MEMBERS - 1) { s = s | ((d != 0 && left[j] == d) << j) }
#endif
    check9(previous[d])
}

/* A manifest that i can do nothing for but leave to, with the word of all its members; 0 without one. */
inline choose_leave() {
    gives[i] = 0;
    for (k : 1 .. manifests - 1) {
        yes = left[i] == 0 && !decided(i) && !has(members[k], i) && previous[k] == stands[i];
        for (j : 0 .. MEMBERS - 1) {
            yes = yes && (!has(members[k], j) || sees(i, j) && phase[j] == PROPOSED && mine[j] == k)
        }
        for (j : 1 .. manifests - 1) { yes = yes && (!has(commits[j], i) || epoch[j] < epoch[k]) }
        if
        :: yes ->
            s = members[k];
            check9(previous[k]);
            if
            :: !yes -> s = s | bit(i); check9(previous[k]); if :: yes -> gives[i] = k :: else fi
            :: else
            fi
        :: else
        fi
    }
}

/* Who leaves takes no part in a round that does without it, and ends when it is left out, or when no round brings it nearer. */
inline consider_leaving() {
    if
    :: phase[i] == IDLE ->
        look_ahead();
        if :: !yes || !has(s, i) -> may[i] = may[i] & ~(ADOPT | FOLLOW) :: else fi;
        if :: !yes || s == members[stands[i]] -> may[i] = may[i] | END :: else fi
    :: else
    fi;
    for (k : 1 .. manifests - 1) {
        if
        :: active(k) && !has(members[k], i) && epoch[k] > epoch[serves[i]] -> may[i] = may[i] | END
        :: else
        fi
    }
    choose_leave();
    if :: gives[i] != 0 -> may[i] = may[i] | GIVE :: else fi
}
#else
#define choose(h)  check9(h)
#endif

/* yes: all live members that have sealed nothing beside h would do for a child of h. */
inline is_feasible(h) {
    s = 0;
    for (j : 0 .. MEMBERS - 1) {
        if
        :: sees(i, j) || lingers(i, j) -> is_above(stands[j], h); s = s | (yes << j)
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
/*
 * The highest epoch that another is still gathering in, or one above what others have finished. Who leaves, and is
 * not waited for, never goes above the others.
 */
inline choose_epoch() {
    next[i] = target[i];
    for (j : 0 .. MEMBERS - 1) {
        if
        :: sees(i, j) && j != i && gathers(j) && target[j] > next[i] -> next[i] = target[j]
        :: sees(i, j) && j != i && !gathers(j) && target[j] >= next[i] && target[j] > target[i] -> next[i] = target[j] + overtakes(i)
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
    may[i] = 0; seen[i] = 0; near[i] = 0;
    d = mine[i];
    choose_head(); choose_epoch(); look();
    if
    :: phase[i] == IDLE || gathers(i) ->
        if :: best[i] != head[i] -> may[i] = may[i] | ADOPT :: else fi;
#ifndef NO_FOLLOWING
        if :: next[i] > target[i] -> may[i] = may[i] | FOLLOW :: else fi;
#endif
        choose(head[i]);
        seen[i] = s;
#if WISHES
        near[i] = all;
        yes = yes && target[i] > epoch[head[i]] && has(s, i);
#endif
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
#if WISHES
        if :: yes -> check9_with_leave() :: else fi;
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
#if WISHES
    ;
    if :: has(wish, i) -> consider_leaving() :: else fi
#endif
}

#if WISHES
/* The lease with a majority of what it serves has run out. */
#define is_suspended(i)  (!majority(live & ~cut | bit(i), serves[i]) || has(cut, i) && count(members[serves[i]]) > 1)
/* A newcomer that the bounds leave no room for is not what a round begins for. */
#define has_room(i, j)   (has(members[serves[j]], i) || count(members[serves[j]] & ~wish) < LARGEST)
#else
#define has_room(i, j)   true
#endif

/* Whose attempt is open though nothing can happen, or whose lease with a dead member has run out: its timer fires. */
inline consider_timer() {
    yes = phase[i] == PROPOSED || phase[i] == COMMITTED;
#ifndef WAITS
    yes = yes || phase[i] == SEALED;
#endif
#ifndef NO_LEASES
    yes = yes || phase[i] == IDLE && !leaving(i) && lost(i);
#endif
#if WISHES
    wait = yes;
    if
    :: phase[i] == IDLE && !leaving(i) -> look_ahead(); wait = wait || yes && s != members[stands[i]]
    :: else
    fi;
    yes = wait;
#endif
    for (j : 0 .. MEMBERS - 1) {
        yes = yes || sees(i, j) && phase[i] == GATHERING && !leaving(i) && target[j] >= target[i] && !gathers(j) && has_room(i, j)
    }
    if :: yes -> may[i] = TIMER; quiet = false :: else fi
#if WISHES
    ;
    if :: has(wish, i) && is_suspended(i) -> may[i] = END; quiet = false :: else fi
#endif
}

#if WISHES
/* L2: who wanted to leave has gone; who stays serves with nobody that has, unless somebody died or a fault spent a LEAVE. */
inline check_leaving() {
    yes = crashes == CRASHES && cuts == CUTS;
    for (j : 0 .. MEMBERS - 1) {
        if
        :: has(live & wish, j) -> printf("VIOLATION L2 member %d never gets away\n", j); assert(false)
        :: left[j] != 0 && seals[left[j]] == 0 ->
            if
            :: yes && faults == FAULTS -> printf("VIOLATION L2 the LEAVE of member %d is for nothing\n", j); assert(false)
            :: else -> yes = false
            fi
        :: else
        fi
    }
    for (j : 0 .. MEMBERS - 1) {
        if
        :: yes && has(live & members[serves[j]], j) && (members[serves[j]] & ~live) != 0 ->
            printf("VIOLATION L2 member %d is left behind on #%d\n", j, serves[j]);
            assert(false)
        :: else
        fi
    }
}
#endif

/*
 * L1: all live members are active on one manifest, or the rules admit no child of any certified manifest.
 * Quotes: while nobody gives up or dies, a commitment is never for nothing.
 */
inline check_end() {
    top = SLOTS;
    wait = true;
#if WISHES
    check_leaving();
    for (j : 0 .. MEMBERS - 1) {
        if :: has(live, j) && (top == SLOTS || serves[j] > top) -> top = serves[j] :: else fi
    }
    for (j : 0 .. MEMBERS - 1) {
        wait = wait && (!has(live, j) || serves[j] == top || !has(members[top], j) && count(members[top]) >= LARGEST)
    }
#else
    for (j : 0 .. MEMBERS - 1) {
        if
        :: has(live, j) && top == SLOTS -> top = serves[j]
        :: has(live, j) && top != SLOTS -> wait = wait && serves[j] == top
        :: else
        fi
    }
#endif
    for (k : 0 .. manifests - 1) {
        if
        :: held(k) && !(wait && top != 0) ->
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

#if WISHES
#define forget_leaving()  parted = 0; asked = 0; all = 0; here = 0; had = 0; b = 0; t = 0
#else
#define forget_leaving()  skip
#endif
inline forget() { a = 0; i = 0; j = 0; k = 0; s = 0; top = 0; d = 0; yes = 0; wait = 0; forget_leaving() }

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
#if WISHES
    if :: number >= EPOCHS -> printf("VIOLATION L1 one attempt after the other fails\n") :: else fi;
#endif
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
    :: d_step { faults > 0 && (may[me] & PROPOSE) && other != me && has(near[me], other) -> \
        i = me; s = near[me] & ~bit(other); \
        choose(head[me]); \
        if \
        :: yes && has(s, me) -> printf("FAULT member %d does not see member %d\n", me, other); propose(me, s) \
        :: else \
        fi; \
        faults-- }

proctype member(byte me) {
    do
    :: atomic { if
    :: d_step { may[me] & ADOPT ->
        printf("member %d adopts #%d\n", me, best[me]);
        head[me] = best[me];
        if :: phase[me] == PROPOSED -> phase[me] = GATHERING; mine[me] = 0 :: else fi }
    :: d_step { may[me] & FOLLOW ->
        begin(me, next[me]) }
    :: d_step { may[me] & PROPOSE ->
        propose(me, seen[me]) }
    :: d_step { may[me] & COMMIT ->
        printf("member %d commits to #%d\n", me, mine[me]);
        commits[mine[me]] = commits[mine[me]] | bit(me); phase[me] = COMMITTED }
    :: d_step { may[me] & SEAL ->
        printf("member %d seals #%d\n", me, mine[me]);
        seals[mine[me]] = seals[mine[me]] | bit(me); phase[me] = SEALED; stands[me] = mine[me]; head[me] = mine[me] }
    :: d_step { may[me] & ACTIVATE ->
        printf("member %d is active on #%d\n", me, mine[me]);
        serves[me] = mine[me]; phase[me] = IDLE }
    :: d_step { may[me] & FENCE ->
        printf("member %d fences: a sibling is active\n", me);
        live = live & ~bit(me) }
    :: d_step { may[me] & TIMER ->
        printf("member %d gives up after its time\n", me);
        raise(me) }
#if WISHES
    :: d_step { has(WISHES & live & ~wish, me) ->
        printf("member %d wants to leave\n", me);
        wish = wish | bit(me) }
    :: d_step { may[me] & GIVE ->
        printf("member %d ends, and gives its LEAVE for #%d\n", me, gives[me]);
        left[me] = gives[me]; live = live & ~bit(me); mine[me] = 0 }
    :: d_step { may[me] & END ->
        printf("member %d ends without a LEAVE\n", me);
        live = live & ~bit(me); mine[me] = 0 }
#endif
#ifndef OVERLOOK_ONLY
    :: d_step { faults > 0 && has(live, me) && phase[me] != IDLE && phase[me] != GATHERING ->
        printf("FAULT member %d gives up too early\n", me);
        faults--; raise(me) }
#endif
    overlooks(0)
    overlooks(1)
#if MEMBERS >= 3
    overlooks(2)
#endif
#if MEMBERS == 4
    overlooks(3)
#endif
    :: d_step { cuts > 0 && cut == 0 && has(live, me) ->
        printf("FAULT member %d is cut off\n", me);
        cuts--; cut = bit(me) }
    :: d_step { cut == bit(me) ->
        printf("member %d is back\n", me);
        cut = 0 }
    :: d_step { crashes > 0 && has(live, me) ->
        printf("FAULT member %d dies\n", me);
        crashes--; live = live & ~bit(me); mine[me] = 0 }
    fi; d_step { review(); forget() } }
    od
}

init {
    atomic {
        members[0] = ROOT; seals[0] = ROOT; commits[0] = ROOT;
        begin(0, 1);
        review();
        forget();
        for (i : 0 .. MEMBERS - 1) { run member(i) };
        i = 0
    }
}
