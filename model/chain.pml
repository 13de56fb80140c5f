/*
 * Which chains of manifests can become active, whatever the network does and whenever members stop.
 *
 * A run first picks a scenario: MANIFESTS candidates for a certificate, each with an epoch, a member set and a
 * predecessor. Then members commit, seal, adopt, leave and learn of a newer topology in every possible order.
 * A message is a fact that is never withdrawn: a receiver may act on it now, later, twice or never. So loss, delay,
 * repetition and reordering need no steps of their own, nor does a crash: a member that stops is one that acts no
 * more, and its restart is another of the newcomers. README.md says what else is left out and why that is sound.
 *
 * Every rule can be switched off by -D and the name in the first column:
 *
 * NO_MAJORITY       no check 9
 * PREVIOUS_ONLY     check 9 for `previous` alone, not for the ancestors back to the last proven active one
 * PROVEN_BY_ONE     an ancestor counts as proven active as soon as one member has sealed it
 * LATE_SEAL         a member seals although its last commitment is another
 * TWICE             two commitments of one epoch
 * LOWER_EPOCH       a commitment below the last one
 * SWITCH            `previous` need not be where the member stands
 * ADOPT_SIBLING     a member adopts a sibling of the manifest that it sealed
 * GENESIS_AGAIN     genesis by a member that has sealed
 * GENESIS_HOLDING   genesis by a member that holds a certificate
 * ALL_BUT_ONE       a certificate lacks one commitment
 * ACTIVE_BY_ONE     active as soon as one member has sealed
 * OLD_TOPOLOGY      a member commits under a topology older than one that it has verified
 * Variants, which are rules of their own and not ablations:
 * STANDS            seal only while `previous` is still where the member stands
 * FREE              adoption binds nobody: `previous` is any certified descendant of the last manifest sealed
 * LEAVE=EPOCH       LEAVE names the previous manifest and an epoch
 * LEAVE=ONCE        LEAVE names one manifest, once in a boot
 * LEAVE=AGAIN       LEAVE names one manifest, and later another
 * UNFENCED          who has signed LEAVE still seals what it had committed to before
 * ELSEWHERE         LEAVE for any manifest, not only for a child of what its sender sealed last
 * LEAVE_BELOW       LEAVE for an epoch that is not above the last commitment
 * COMMITS_ON        who has signed LEAVE commits on, and seals that
 */

#ifndef MEMBERS
#define MEMBERS 4    /* instances, newcomers included */
#endif
#ifndef ROOT
#define ROOT 7       /* the members of manifest 0, which is active at the start; 0: nothing is sealed yet */
#endif
#ifndef MANIFESTS
#define MANIFESTS 3  /* that may get a certificate, besides the root */
#endif
#ifndef SMALLEST
#define SMALLEST 1   /* the least number of members that the topology's bounds allow */
#endif
#define EPOCH 1
#define ONCE 2
#define AGAIN 3

#define bit(i)     (1 << (i))
#define has(m, i)  (((m) >> (i)) & 1)
#define count(m)   (has(m, 0) + has(m, 1) + has(m, 2) + has(m, 3) + has(m, 4))
#define everyone   ((1 << MEMBERS) - 1)

/* The scenario. Sets of members and sets of manifests are bit masks. */
byte epoch[MANIFESTS + 1];
byte members[MANIFESTS + 1];
byte previous[MANIFESTS + 1];
byte ancestors[MANIFESTS + 1];
byte lineage[MANIFESTS + 1];

/* What has been said. */
byte commits[MANIFESTS + 1];
byte seals[MANIFESTS + 1];

/* What a member remembers. */
byte stands[MEMBERS];     /* the manifest that it sealed or adopted last */
byte committed[MEMBERS];  /* its last commitment */
byte sealed;              /* who has sealed anything in this boot: a member of the root has */
byte holds;               /* who has seen a certificate */
byte fenced;

/* Follows from the above; updated by review(). */
byte needed[MANIFESTS + 1];    /* ancestors of which check 9 demands a majority */
byte supported[MANIFESTS + 1]; /* ancestors of which it has one */

#ifdef VERSIONS
byte version[MANIFESTS + 1];
byte verified[MEMBERS];
#endif
#ifdef LEAVE
byte left[MEMBERS];            /* the manifests that LEAVE was signed for */
#endif

/* Scratch of one step: zero between steps. */
byte a, b, k, m, s;

#ifdef ALL_BUT_ONE
#define complete(said, k)  (count(members[k] & ~(said)) <= 1)
#else
#define complete(said, k)  ((said) == members[k])
#endif
#define certified(k)  ((k) == 0 || complete(commits[k], k))
#ifdef ACTIVE_BY_ONE
#define active(k)     ((k) == 0 && ROOT != 0 || seals[k] != 0)
#else
#define active(k)     ((k) == 0 && ROOT != 0 || (k) != 0 && seals[k] == members[k])
#endif
#ifdef PROVEN_BY_ONE
#define proven(k)     (active(k) || seals[k] != 0)
#else
#define proven(k)     active(k)
#endif
#define majority(set, k)  (2 * count((set) & members[k]) > count(members[k]))

/* Who counts for manifest k without being in it. one: of a set with one manifest. */
#define one(set)  ((set) == 2 -> 1 : ((set) == 4 -> 2 : ((set) == 8 -> 3 : ((set) == 16 -> 4 : 5))))
#ifdef LEAVE
inline leavers(k, set) {
    set = 0;
    for (m : 0 .. MEMBERS - 1) {
        if
#if LEAVE == EPOCH
        :: left[m] != 0 && epoch[one(left[m])] == epoch[k] && previous[one(left[m])] == previous[k] -> set = set | bit(m)
#else
        :: (left[m] & (ancestors[k] | bit(k))) != 0 -> set = set | bit(m)
#endif
        :: else
        fi
    }
}
#else
#define leavers(k, set)  set = 0
#endif

inline forget() { a = 0; b = 0; k = 0; m = 0; s = 0 }

inline review() {
    for (k : 1 .. MANIFESTS) {
        needed[k] = 0; supported[k] = 0;
#ifndef NO_MAJORITY
        leavers(k, s);
        a = previous[k];
        do
        :: a == 0 && ROOT == 0 -> break
        :: else ->
            needed[k] = needed[k] | bit(a);
            if
            :: majority(members[k] | s, a) -> supported[k] = supported[k] | bit(a)
            :: else
            fi;
#ifdef PREVIOUS_ONLY
            break
#else
            if
            :: a == 0 || proven(a) -> break
            :: else -> a = previous[a]
            fi
#endif
        od
#endif
    }
}

/* S1 and S6: active manifests of one lineage form a chain, those of two lineages share no member. */
inline check_active() {
    for (b : 1 .. MANIFESTS) {
        for (a : 0 .. b - 1) {
            if
            :: active(a) && active(b) && !has(ancestors[b], a) ->
#ifdef ONE_MESH
                printf("VIOLATION S1 #%d and #%d are active side by side\n", a, b);
                assert(false)
#else
                if
                :: lineage[a] == lineage[b] ->
                    printf("VIOLATION S1 #%d and #%d are active side by side\n", a, b);
                    assert(false)
                :: lineage[a] != lineage[b] && (members[a] & members[b]) != 0 ->
                    printf("VIOLATION S6 #%d and #%d are two lineages with a common member\n", a, b);
                    assert(false)
                :: else
                fi
#endif
            :: else
            fi
        }
    }
}

#ifdef CHECK_CHAIN
#define check(condition, text)  skip
#else
#define check(condition, text)  if :: condition :: else -> printf(text); assert(false) fi
#endif

/* Check 7. Who has sealed nothing may continue any certificate that it has seen, or none. */
#ifdef GENESIS_AGAIN
#define may_begin(i)   true
#else
#ifdef GENESIS_HOLDING
#define may_begin(i)   (!has(sealed, i))
#else
#define may_begin(i)   (!has(sealed, i) && !has(holds, i))
#endif
#endif
#ifdef SWITCH
#define at(i, k)       true
#else
#ifdef FREE
#define at(i, k)       (has(ancestors[k], stands[i]))
#else
#define at(i, k)       (previous[k] == stands[i])
#endif
#endif
#define begins(k)      (ROOT == 0 && previous[k] == 0)
#define linked(i, k)   (begins(k) -> may_begin(i) : (certified(previous[k]) && (!has(sealed, i) || at(i, k))))

/* Check 8. */
#ifdef LOWER_EPOCH
#define fresh(i, k)    (committed[i] != k)
#else
#ifdef TWICE
#define fresh(i, k)    (epoch[k] >= epoch[committed[i]] && committed[i] != k)
#else
#define fresh(i, k)    (epoch[k] > epoch[committed[i]])
#endif
#endif

/* Check 1. */
#ifdef VERSIONS
#ifdef OLD_TOPOLOGY
#define current(i, k)  (version[k] <= verified[i])
#else
#define current(i, k)  (version[k] == verified[i])
#endif
#else
#define current(i, k)  true
#endif

#define may_commit(i, k) \
    (has(members[k], i) && !has(commits[k], i) && stays(i) && !has(fenced, i) && fresh(i, k) && current(i, k) \
     && linked(i, k) && (needed[k] & ~supported[k]) == 0)

inline commit(i, k_) {
    d_step {
        printf("member %d commits to #%d\n", i, k_);
        check(epoch[k_] > epoch[committed[i]], "VIOLATION S3 epochs of a member's commitments rise\n");
        commits[k_] = commits[k_] | bit(i);
        committed[i] = k_;
        if :: !begins(k_) -> holds = holds | bit(i) :: else fi;
        check_certificate(k_)
    }
}

inline check_certificate(k_) {
#ifdef VERSIONS
    check(!certified(k_) || previous[k_] == 0 && ROOT == 0 || version[k_] >= version[previous[k_]],
          "VIOLATION S8 topology versions rise along a chain\n");
#endif
    check(!certified(k_) || begins(k_) || epoch[k_] > epoch[previous[k_]], "VIOLATION S8 epochs rise along a chain\n")
}

/* Checks before a seal. The text asks for the last commitment; TWICE leaves only its epoch to compare. */
#ifdef LATE_SEAL
#define last(i, k)     true
#else
#ifdef TWICE
#define last(i, k)     (epoch[committed[i]] == epoch[k])
#else
#define last(i, k)     (committed[i] == k)
#endif
#endif
#ifdef STANDS
#define unmoved(i, k)  (!has(sealed, i) || at(i, k))
#else
#define unmoved(i, k)  true
#endif
#define may_seal(i, k) \
    (certified(k) && has(commits[k], i) && !has(seals[k], i) && !has(fenced, i) && last(i, k) && unmoved(i, k))

inline seal(i, k_) {
    d_step {
        printf("member %d seals #%d\n", i, k_);
        check(commits[k_] == members[k_], "VIOLATION S2 a seal without all commitments\n");
        check(committed[i] == k_, "VIOLATION S3 a member seals an attempt that it has left\n");
        for (b : 1 .. MANIFESTS) {
            check(!has(seals[b], i) || b == k_ || epoch[b] < epoch[k_], "VIOLATION S3 a member seals backwards or twice in an epoch\n");
            check(!has(seals[b], i) || lineage[b] == lineage[k_], "VIOLATION S6 a member seals in two lineages\n");
        }
        seals[k_] = seals[k_] | bit(i);
        stands[i] = k_;
        sealed = sealed | bit(i);
        holds = holds | bit(i);
        review();
        check_active();
        forget()
    }
}

/* A member that has moved on takes the certificate of a child of where it stands as its next `previous`. */
#ifdef FREE
#define may_adopt(i, k)  false
#else
#ifdef ADOPT_SIBLING
#define may_adopt(i, k) \
    (certified(k) && has(sealed, i) && !has(fenced, i) && stands[i] != k \
     && (previous[k] == stands[i] || stands[i] != 0 && previous[k] == previous[stands[i]]))
#else
#define may_adopt(i, k) \
    (certified(k) && has(sealed, i) && !has(fenced, i) && previous[k] == stands[i])
#endif
#endif

inline adopt(i, k_) {
    d_step {
        printf("member %d adopts #%d\n", i, k_);
        stands[i] = k_
    }
}

#ifdef LEAVE
#if LEAVE == AGAIN
#define may_go(i, k)  (left[i] < bit(k))
#else
#define may_go(i, k)  (left[i] == 0)
#endif
#ifdef ELSEWHERE
#define child_of(i, k) true
#else
#define child_of(i, k) (previous[k] == stands[i])
#endif
#ifdef LEAVE_BELOW
#define above(i, k)    true
#else
#define above(i, k)    (epoch[k] > epoch[committed[i]])
#endif
#define may_leave(i, k) \
    (has(sealed, i) && !has(members[k], i) && child_of(i, k) && !begins(k) && certified(previous[k]) \
     && above(i, k) && current(i, k) && may_go(i, k))

#if defined(UNFENCED) || defined(COMMITS_ON)
#define depart(i)  skip
#else
#define depart(i)  fenced = fenced | bit(i)
#endif

inline leave(i, k_) {
    d_step {
        printf("member %d leaves to #%d\n", i, k_);
        left[i] = left[i] | bit(k_);
        depart(i);
        review();
        forget()
    }
}
#ifdef COMMITS_ON
#define stays(i)       true
#else
#define stays(i)       (left[i] == 0)
#endif
#define leaving(i, k)  :: atomic { may_leave(i, k) -> leave(i, k) }
#else
#define stays(i)       true
#define leaving(i, k)
#endif

#ifdef VERSIONS
#define learning(i)    :: atomic { verified[i] == 1 -> printf("member %d verifies topology version 2\n", i); verified[i] = 2 }
#else
#define learning(i)
#endif

#define acts(i, k) \
    :: atomic { may_commit(i, k) -> commit(i, k) } \
    :: atomic { may_seal(i, k) -> seal(i, k) } \
    :: atomic { may_adopt(i, k) -> adopt(i, k) } \
    leaving(i, k)

proctype member(byte i) {
    do
    acts(i, 1)
#if MANIFESTS >= 2
    acts(i, 2)
#endif
#if MANIFESTS >= 3
    acts(i, 3)
#endif
#if MANIFESTS >= 4
    acts(i, 4)
#endif
#if MANIFESTS >= 5
    acts(i, 5)
#endif
    learning(i)
    od
}

/*
 * Manifests are numbered by epoch, then by set. Only the order of epochs matters, so each is that of its
 * forerunner or one more. Two of one epoch with a common member cannot both be certified: a commitment
 * to one that never is differs in nothing from a commitment left out. A majority of `previous` is needed always.
 */
inline choose_epoch(j) {
    if
    :: epoch[j] = epoch[j - 1] + (j == 1 -> 1 : 0)
    :: j > 1 -> epoch[j] = epoch[j - 1] + 1
    fi
}

#ifdef TWICE
#define distinct(j, b)  (members[b] < members[j])
#else
#define distinct(j, b)  (members[b] < members[j] && (members[b] & members[j]) == 0)
#endif

/* Members of the root are interchangeable, and so are newcomers: the first manifest takes the lowest of each. */
#define lowest(set)  (((set) & ((set) + 1)) == 0)

inline choose_members(j) {
    select(choice : 1 .. everyone);
    members[j] = choice;
    count(choice) >= SMALLEST;
    j > 1 || lowest(choice & ROOT) && lowest((choice & ~ROOT) >> count(ROOT));
    for (b : 1 .. j - 1) {
        epoch[b] < epoch[j] || distinct(j, b)
    }
}

#if defined(LEAVE) || defined(NO_MAJORITY)
#define possible(j)  true
#else
#define possible(j)  begins(j) || majority(members[j], previous[j])
#endif

inline choose_previous(j) {
    select(choice : 0 .. j - 1);
    previous[j] = choice;
    choice == 0 || epoch[choice] < epoch[j];
    ancestors[j] = ancestors[choice] | bit(choice);
    lineage[j] = (ROOT == 0 && choice == 0 -> j : lineage[choice]);
    possible(j)
}

init {
    byte j, choice;
    atomic {
        members[0] = ROOT; seals[0] = ROOT; sealed = ROOT; holds = ROOT;
        for (j : 1 .. MANIFESTS) {
            choose_epoch(j);
            choose_members(j);
            choose_previous(j);
#ifdef VERSIONS
            if :: version[j] = 1 :: version[j] = 2 fi;
#endif
            printf("MANIFEST #%d epoch %d members %d previous #%d\n", j, epoch[j], members[j], previous[j])
        }
#ifdef VERSIONS
        version[0] = 1;
        for (choice : 0 .. MEMBERS - 1) { verified[choice] = 1 }
#endif
        review();
        for (choice : 0 .. MEMBERS - 1) { run member(choice) };
        j = 0; choice = 0;
        forget()
    }
}
