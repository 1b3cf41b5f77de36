/* As much of GNU's OpenMP as the core uses, of POSIX threads that are made for each region, so that
 * ThreadSanitizer sees what orders a region.  `make sanitize` loads it in libgomp's place. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct {
    void (*region)(void *);
    void *data;
    int size;
    pthread_barrier_t barrier;
    pthread_mutex_t lock; /* of the loop that all its threads take from, one in a region */
    bool begun;
    long next, end;
} team;

typedef struct {
    team *of;
    int number;
} member;

static __thread member me = {NULL, 0};

static void *take_part(void *argument)
{
    const member outer = me;
    me = *(member *)argument;
    me.of->region(me.of->data);
    me = outer;
    return NULL;
}

void GOMP_parallel(void (*region)(void *), void *data, unsigned threads, unsigned flags)
{
    const int n = threads ? (int)threads : 2;
    team all = {.region = region, .data = data, .size = n, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t *made = calloc((size_t)n, sizeof *made);
    member *members = calloc((size_t)n, sizeof *members);
    (void)flags;
    pthread_barrier_init(&all.barrier, NULL, (unsigned)n);
    for (int i = n - 1; i >= 0; i--) {
        members[i] = (member){&all, i};
        if (i > 0)
            pthread_create(&made[i], NULL, take_part, &members[i]);
    }
    take_part(&members[0]);
    for (int i = 1; i < n; i++)
        pthread_join(made[i], NULL);
    pthread_barrier_destroy(&all.barrier);
    free(members);
    free(made);
}

void GOMP_barrier(void)
{
    if (me.of)
        pthread_barrier_wait(&me.of->barrier);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long *start, long *end)
{
    team *t = me.of;
    pthread_mutex_lock(&t->lock);
    const bool some = t->next < t->end;
    *start = t->next;
    *end = ++t->next;
    pthread_mutex_unlock(&t->lock);
    return some;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long first, long last, long step, long chunk, long *start,
                                          long *end)
{
    team *t = me.of;
    if (step != 1 || chunk != 1)
        abort();
    pthread_mutex_lock(&t->lock);
    if (!t->begun) {
        t->next = first;
        t->end = last;
        t->begun = true;
    }
    pthread_mutex_unlock(&t->lock);
    return GOMP_loop_nonmonotonic_dynamic_next(start, end);
}

void GOMP_loop_end_nowait(void) {}

int omp_get_thread_num(void) { return me.number; }
int omp_get_num_threads(void) { return me.of ? me.of->size : 1; }
int omp_get_max_threads(void)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    return wanted ? atoi(wanted) : 2;
}
int omp_in_parallel(void) { return me.of && me.of->size > 1; }
