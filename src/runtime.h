/* What the core needs of the platform: threads with or without OpenMP, and
 * aligned memory. */
#ifndef FASTNN_RUNTIME_H
#define FASTNN_RUNTIME_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#elif !defined(__EMSCRIPTEN__)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__linux__)
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* A barrier for the threads of a parallel region.  GNU's `omp barrier` spins for milliseconds, so
 * where another program wants one of the processors, each step waits for a time slice.  This one
 * spins for about as long as a late thread needs to come, yields for a while, then sleeps.
 *
 * Linux often wakes a thread on the processor of the one that woke it, where the two take turns
 * while another processor idles.  So each leaves word where it is, and one that has to wait on the
 * processor of another moves away. */
enum { FASTNN_MAX_THREADS = 256 }; /* as MAX_THREADS in threads.pxi */

typedef struct {
    int arrived;
    int sleepers;
    unsigned turn;                     /* may wrap */
    uint64_t float_mode;               /* of the caller */
    int processor[FASTNN_MAX_THREADS]; /* of each thread, plus one; 0 while it is not known */
} fastnn_barrier;

#if defined(__linux__) && defined(__GLIBC__)
static void fastnn_spread_out(fastnn_barrier *b, int thread, int team)
{
    const int here = sched_getcpu();
    cpu_set_t allowed, others;
    int shared = 0;
    for (int i = 0; i < team; i++)
        shared |= i != thread && __atomic_load_n(&b->processor[i], __ATOMIC_RELAXED) == here + 1;
    if (shared && sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        others = allowed;
        for (int i = 0; i < team; i++) {
            const int processor = __atomic_load_n(&b->processor[i], __ATOMIC_RELAXED) - 1;
            if (i != thread && processor >= 0 && processor < CPU_SETSIZE)
                CPU_CLR(processor, &others);
        }
        if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
            sched_setaffinity(0, sizeof allowed, &allowed);
    }
}

static inline void fastnn_leave_word(fastnn_barrier *b, int thread)
{
    const int here = sched_getcpu() + 1;
    if (__atomic_load_n(&b->processor[thread], __ATOMIC_RELAXED) != here)
        __atomic_store_n(&b->processor[thread], here, __ATOMIC_RELAXED);
}
#else
static inline void fastnn_spread_out(fastnn_barrier *b, int thread, int team)
{
    (void)b, (void)thread, (void)team;
}
static inline void fastnn_leave_word(fastnn_barrier *b, int thread) { (void)b, (void)thread; }
#endif

/* How this thread rounds, and what it makes of denormal numbers. */
static inline uint64_t fastnn_float_mode(void)
{
#if defined(__SSE__) || defined(_M_X64)
    return _mm_getcsr() & ~0x3fu; /* without the flags of what has happened */
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
#else
    return 0;
#endif
}

static inline void fastnn_set_float_mode(uint64_t mode)
{
#if defined(__SSE__) || defined(_M_X64)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

/* Before a region, by the thread that calls for it. */
static inline void fastnn_call_team(fastnn_barrier *b)
{
    b->float_mode = fastnn_float_mode();
    fastnn_leave_word(b, 0);
}

/* At the start of a region.  Threads that were woken on the processor of the first move away, and it
 * lets them run.  All compute as the first does, so that no bit depends on who computes it; returns
 * the mode to leave with. */
static inline uint64_t fastnn_join(fastnn_barrier *b, int thread, int team)
{
    const uint64_t mode = fastnn_float_mode();
    if (thread > 0) {
        fastnn_set_float_mode(b->float_mode);
        __atomic_store_n(&b->processor[thread], 0, __ATOMIC_RELAXED);
        fastnn_spread_out(b, thread, team);
        fastnn_leave_word(b, thread);
    }
#if defined(__linux__)
    if (thread == 0)
        sched_yield();
#endif
    return mode;
}

#define SPINS 500   /* of some 20 ns */
#define YIELDS 2000 /* of some 500 ns */

/* What a thread does that waits, the i-th time that it looks. */
static inline void fastnn_relax(int i)
{
#if !defined(_WIN32) && !defined(__EMSCRIPTEN__)
    if (i >= SPINS) {
        const struct timespec pause = {0, 100000};
        if (i < SPINS + YIELDS)
            sched_yield();
        else
            nanosleep(&pause, NULL);
        return;
    }
#endif
    (void)i;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#if defined(__linux__) && defined(__GNUC__)
static void fastnn_wait(fastnn_barrier *b, int thread, int team)
{
    const unsigned turn = __atomic_load_n(&b->turn, __ATOMIC_RELAXED);
    fastnn_leave_word(b, thread);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == team) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->turn, turn + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&b->sleepers, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &b->turn, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
        return;
    }
    for (int i = 0; i < SPINS + YIELDS; i++) {
        if (__atomic_load_n(&b->turn, __ATOMIC_ACQUIRE) != turn)
            return;
        if (i == SPINS)
            fastnn_spread_out(b, thread, team);
        fastnn_relax(i);
    }
    __atomic_add_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&b->turn, __ATOMIC_SEQ_CST) == turn)
        syscall(SYS_futex, &b->turn, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
    __atomic_sub_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    fastnn_spread_out(b, thread, team);
}
#else
static inline void fastnn_wait(fastnn_barrier *b, int thread, int team)
{
    (void)b, (void)thread, (void)team;
#ifdef _OPENMP
#pragma omp barrier
#endif
}
#endif

static inline double fastnn_seconds(void)
{
    struct timespec now;
#if defined(_WIN32)
    timespec_get(&now, TIME_UTC);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline int fastnn_team_size(void)
{
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

/* GNU's OpenMP hangs when a forked child uses the threads that its parent had,
 * so a child stays on one thread.  Counts the forks from the first process on. */
static int fastnn_forked = 0;

#if !defined(_WIN32) && !defined(__EMSCRIPTEN__)
static void fastnn_after_fork(void) { fastnn_forked++; }
static inline void fastnn_watch_forks(void) { pthread_atfork(NULL, NULL, fastnn_after_fork); }
#else
static inline void fastnn_watch_forks(void) {}
#endif

/* A forked child, a caller that is a thread of a team itself, or no OpenMP. */
static inline int fastnn_must_be_serial(void)
{
#ifdef _OPENMP
    return fastnn_forked || omp_in_parallel();
#else
    return 1;
#endif
}

/* Threads that the OpenMP runtime would give a region started now. */
static inline int fastnn_max_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

/* How many of the `team` threads of a region that now begins there will be, with the caller.  GNU's
 * OpenMP ends the process where the system refuses it a thread.  So threads that the caller's last team
 * did not have are made by hand first, all at once: what these were given is there for the team's. */
#if defined(_OPENMP) && !defined(_WIN32)
static void *fastnn_pass(void *gate)
{
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return NULL;
}

static int fastnn_possible_team(int team)
{
    static _Thread_local int had = 1;
    if (team > had) {
        pthread_t made[FASTNN_MAX_THREADS];
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        int n = 0;
        pthread_mutex_lock(&gate);
        while (n < team - had && pthread_create(&made[n], NULL, fastnn_pass, &gate) == 0)
            n++;
        pthread_mutex_unlock(&gate);
        for (int i = 0; i < n; i++)
            pthread_join(made[i], NULL);
        team = had + n;
    }
    return had = team;
}
#else
static inline int fastnn_possible_team(int team) { return team; }
#endif

/* A number that threads tell each other without a lock. */
static inline void fastnn_tell(int *place, int value)
{
    __atomic_store_n(place, value, __ATOMIC_RELAXED);
}
static inline int fastnn_told(const int *place) { return __atomic_load_n(place, __ATOMIC_RELAXED); }
/* Returns what it was before. */
static inline int fastnn_add(int *place, int value)
{
    return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}

/* A number that only grows, and what was written before it was told; one on each line. */
typedef struct {
    int64_t number;
    char line[64 - sizeof(int64_t)];
} fastnn_progress;

static inline void fastnn_tell_progress(fastnn_progress *p, int64_t number)
{
    __atomic_store_n(&p->number, number, __ATOMIC_RELEASE);
}

/* Waits until it is `number`; false if `stop` is told before. */
static inline int fastnn_wait_for(const fastnn_progress *p, int64_t number, const int *stop)
{
    for (int i = 0; __atomic_load_n(&p->number, __ATOMIC_ACQUIRE) < number; i += i < SPINS + YIELDS) {
        if (fastnn_told(stop))
            return 0;
        fastnn_relax(i);
    }
    return 1;
}

static inline void fastnn_tell_steps(int64_t *place, int64_t value)
{
    __atomic_store_n(place, value, __ATOMIC_RELAXED);
}
static inline int64_t fastnn_told_steps(const int64_t *place)
{
    return __atomic_load_n(place, __ATOMIC_RELAXED);
}

static inline int fastnn_openmp_version(void)
{
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}

static inline const char *fastnn_openmp_runtime(void)
{
#if defined(__clang__)
    return "libomp";
#elif defined(__GNUC__)
    return "libgomp";
#else
    return "vcomp";
#endif
}

static inline const char *fastnn_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#elif defined(_MSC_VER)
    return "MSVC";
#else
    return "unknown";
#endif
}

/* Zeroed, on a cache line; NULL when there is no memory or the size overflows. */
static inline void *fastnn_alloc(size_t count, size_t size)
{
    const size_t line = 64, huge = (size_t)2 << 20;
    if (size && count > (PTRDIFF_MAX - huge) / size)
        return NULL;
    size_t bytes = (count * size + line - 1) / line * line;
    if (bytes == 0)
        bytes = line;
    void *p;
#if defined(_WIN32)
    p = _aligned_malloc(bytes, line);
#else
    p = NULL;
    if (posix_memalign(&p, bytes < huge ? line : huge, bytes))
        p = NULL;
#endif
    if (!p)
        return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= huge)
        (void)madvise(p, bytes, MADV_HUGEPAGE);
#endif
    memset(p, 0, bytes);
    return p;
}

static inline void fastnn_free(void *p)
{
#if defined(_WIN32)
    _aligned_free(p);
#else
    free(p);
#endif
}

#endif
