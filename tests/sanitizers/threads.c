/* As much of GNU's OpenMP as the core uses, of POSIX threads that are made for each region, so that
 * ThreadSanitizer sees what begins and ends a region.  `make sanitize` loads it in libgomp's place. */
#include <pthread.h>
#include <stdlib.h>

static __thread int number, size = 1;

typedef struct {
    void (*region)(void *);
    void *data;
    int number, size;
} member;

static void *take_part(void *argument)
{
    const member *m = argument;
    number = m->number;
    size = m->size;
    m->region(m->data);
    return NULL;
}

void GOMP_parallel(void (*region)(void *), void *data, unsigned threads, unsigned flags)
{
    const int outer_number = number, outer_size = size;
    const int n = threads ? (int)threads : 2;
    pthread_t *made = calloc((size_t)n, sizeof *made);
    member *members = calloc((size_t)n, sizeof *members);
    (void)flags;
    for (int i = n - 1; i >= 0; i--) {
        members[i] = (member){region, data, i, n};
        if (i > 0)
            pthread_create(&made[i], NULL, take_part, &members[i]);
    }
    take_part(&members[0]);
    for (int i = 1; i < n; i++)
        pthread_join(made[i], NULL);
    number = outer_number;
    size = outer_size;
    free(members);
    free(made);
}

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
void GOMP_atomic_start(void) { pthread_mutex_lock(&one_at_a_time); }
void GOMP_atomic_end(void) { pthread_mutex_unlock(&one_at_a_time); }

int omp_get_thread_num(void) { return number; }
int omp_get_num_threads(void) { return size; }
int omp_get_max_threads(void)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    return wanted ? atoi(wanted) : 2;
}
int omp_in_parallel(void) { return size > 1; }
