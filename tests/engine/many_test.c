/*
 * More connections in one process than it may have descriptors: direct descriptors are counted per ring.
 * Skipped where the start-up self-test leaves the engine on normal descriptors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peerhub.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SHARDS 4
#define TAG 5
#define WAIT_SECONDS 60

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned opened, closed;
static unsigned char *ends; /* final events of each dialled id */

static void count(unsigned *counter)
{
	pthread_mutex_lock(&lock);
	(*counter)++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void wait_for(const unsigned *counter, unsigned wanted)
{
	struct timespec until;
	int status = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&lock);
	while (*counter < wanted && status == 0)
		status = pthread_cond_timedwait(&changed, &lock, &until);
	if (*counter < wanted)
		fprintf(stderr, "waited for %u, saw %u\n", wanted, *counter);
	pthread_mutex_unlock(&lock);
	assert_int_equal(status, 0);
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	(void)hub_user, (void)id, (void)user, (void)info;
	count(&opened);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	(void)hub_user, (void)id, (void)receipt;
	pthread_mutex_lock(&lock);
	if (user != NULL)
		(*(unsigned char *)user)++;
	pthread_mutex_unlock(&lock);
	count(&closed);
}

static unsigned descriptors_in_use(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned number = 0;

	assert_non_null(directory);
	while (readdir(directory) != NULL)
		number++;
	closedir(directory);
	return number;
}

static void more_connections_than_descriptors(void **state)
{
	struct ph_callbacks callbacks = {.on_open = on_open, .on_closed = on_closed};
	struct ph_options options = {.shard_count = SHARDS};
	struct ph_listen_options listen = {
		.framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE, .tag = TAG};
	struct ph_open_options open = {.framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE, .tag = TAG};
	char why[PH_WHY_BYTES];
	struct rlimit limit;
	struct ph_statistics stats;
	struct ph_hub *hub;
	uint64_t *ids;
	unsigned pairs;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max > 40000)
		limit.rlim_cur = limit.rlim_max =
			20000; /* make the point where the limit is higher */
	else
		limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (ph_hub_start(&options, &callbacks, &hub, why) < 0)
		fail_msg("%s", why);
	if (strstr(ph_features(hub), "direct_descriptors yes") == NULL) {
		assert_int_equal(ph_hub_stop(hub, PH_ABORT), 0);
		skip();
	}
	pairs = (unsigned)limit.rlim_max / 2 + 1000; /* both ends are ours */
	ids = calloc(pairs, sizeof(*ids));
	ends = calloc(pairs, 1);
	assert_int_equal(ph_address_parse("127.0.0.1:0", &listen.address), 0);
	assert_true(ph_listen(hub, &listen, &open.address) >= 0);
	for (unsigned i = 0; i < pairs; i++) {
		open.user = &ends[i];
		assert_int_equal(ph_open(hub, &open, &ids[i]), 0);
		/* Not faster than the accept queue of a listener. */
		if (i % 1000 == 999)
			wait_for(&opened, 2 * (i - 900));
	}
	wait_for(&opened, 2 * pairs);
	ph_stats(hub, &stats);
	assert_int_equal(stats.open, 2 * pairs);
	assert_true(stats.open > limit.rlim_max);
	assert_true(descriptors_in_use() < 100);
	for (unsigned i = 0; i < pairs; i++)
		assert_int_equal(ph_close(ids[i], TAG, i % 2 ? PH_ABORT : PH_GRACEFUL, 0, NULL), 0);
	wait_for(&closed, 2 * pairs);
	for (unsigned i = 0; i < pairs; i++) {
		assert_int_equal(ends[i], 1);
		assert_int_equal(ph_close(ids[i], TAG, PH_ABORT, 0, NULL), -ENOENT);
	}
	assert_int_equal(ph_hub_stop(hub, PH_GRACEFUL), 0);
	assert_int_equal(closed, 2 * pairs);
	free(ids);
	free(ends);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(more_connections_than_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
