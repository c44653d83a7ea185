/* Preloaded into a program: what the file SKEW_FILE says, in nanoseconds, is added to the wall clock that it sees.
 * Monotonic clocks stay as they are, as they do where an administrator or NTP sets the time. See skewed_clock.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND_NS = 1000000000;

static volatile const int64_t *skew_ns;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void) {
    if (skew_ns != NULL) return;
    const char *path = getenv("SKEW_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *skew_ns, PROT_READ, MAP_SHARED, file, 0);
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (mapped == MAP_FAILED || real_clock_gettime == NULL) abort();
    close(file);
    skew_ns = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    prepare();
    int failed = real_clock_gettime(clock, now);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t skewed = now->tv_sec * SECOND_NS + now->tv_nsec + *skew_ns;
    now->tv_sec = skewed / SECOND_NS;
    now->tv_nsec = skewed % SECOND_NS;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone; /* obsolete, and nobody here asks for it */
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now != NULL) *now = precise.tv_sec;
    return precise.tv_sec;
}
