/*
 * The engine as a TLS client of another implementation's server, for interop_test.sh: what standard
 * input gives goes out raw, what comes back goes to standard output.
 *
 *   tls_dial HOST:PORT CERT KEY CA BYTES [openssl]    close after BYTES have come back
 *
 * `openssl`: with PH_HUB_TLS_OPENSSL. Exit code 0: all came back and the close was graceful.
 */
#include "bench/echo/trust.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TAG 1u
#define WAIT_S 60

struct dial {
	struct trust *trust;
	uint64_t wanted;
	atomic_uint_fast64_t got;
	atomic_bool is_open;
	atomic_bool has_ended;
	sem_t changed; /* posted at on_open, at the wanted byte, at on_closed */
	struct ph_receipt receipt;
};

static int dial_on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct dial *dial = hub_user;

	(void)id;
	(void)sni;
	(void)expected;
	return trust_judge(dial->trust, chain, accepted, verdict->identity, verdict->refusal);
}

static void dial_on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct dial *dial = hub_user;

	(void)id;
	(void)user;
	(void)info;
	atomic_store(&dial->is_open, true);
	sem_post(&dial->changed);
}

static int dial_on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct dial *dial = hub_user;

	(void)id;
	(void)user;
	(void)type;
	if (fwrite(data, 1, bytes, stdout) != bytes)
		exit(EXIT_FAILURE);
	if (atomic_fetch_add(&dial->got, bytes) + bytes >= dial->wanted)
		sem_post(&dial->changed);
	return 0;
}

static void dial_on_closed(
	void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct dial *dial = hub_user;

	(void)id;
	(void)user;
	dial->receipt = *receipt;
	atomic_store(&dial->has_ended, true);
	sem_post(&dial->changed);
}

static const struct ph_callbacks callbacks = {
	.on_verify = dial_on_verify,
	.on_open = dial_on_open,
	.on_data = dial_on_data,
	.on_closed = dial_on_closed,
};

static void wait_change(struct dial *dial)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	while (sem_timedwait(&dial->changed, &until) < 0)
		if (errno != EINTR) {
			fprintf(stderr, "tls_dial: nothing happens\n");
			exit(EXIT_FAILURE);
		}
}

/* Standard input to the connection, until its end or the connection's. */
static int pump(struct dial *dial, uint64_t id)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	static uint8_t data[40000]; /* more than two records */
	ssize_t bytes;
	int status = 0;

	while (status == 0 && (bytes = read(STDIN_FILENO, data, sizeof(data))) > 0) {
		struct ph_part part = {.data = data, .bytes = (size_t)bytes};

		do {
			status = ph_send(id, TAG, NULL, &part, 1);
			if (status == -EAGAIN)
				nanosleep(&pause, NULL);
		} while (status == -EAGAIN && !atomic_load(&dial->has_ended));
	}
	return status;
}

int main(int argc, char **argv)
{
	static struct dial dial;
	struct ph_options options = {.size = sizeof(options), .shard_count = 1, .user = &dial};
	struct ph_open_options open = {.framing = PH_FRAMING_RAW,
		.tls = PH_TLS_MUTUAL,
		.tag = TAG,
		.sni = "any.test.p2p",
		.group = "test"};
	char why[TRUST_WHY_BYTES] = "";
	struct ph_hub *hub;
	uint64_t id;
	int status;

	if (argc < 6 || ph_address_parse(argv[1], &open.address) < 0) {
		fprintf(stderr, "usage: tls_dial HOST:PORT CERT KEY CA BYTES [openssl]\n");
		return 2;
	}
	if (argc > 6)
		options.flags = PH_HUB_TLS_OPENSSL;
	dial.wanted = strtoull(argv[5], NULL, 10);
	if (sem_init(&dial.changed, 0, 0) < 0 ||
		trust_create(argv[2], argv[3], argv[4], &dial.trust, why) < 0 ||
		ph_hub_start(&options, &callbacks, &hub, why) < 0) {
		fprintf(stderr, "tls_dial: %s\n", why);
		return strstr(why, "io_uring") != NULL ? 77 : EXIT_FAILURE;
	}
	open.credentials = trust_credentials(dial.trust);
	open.source = trust_identity(dial.trust);
	status = ph_open(hub, &open, &id);
	if (status == 0) {
		wait_change(&dial);
		status = atomic_load(&dial.is_open) ? pump(&dial, id) : 0;
		while (status == 0 && atomic_load(&dial.got) < dial.wanted &&
			!atomic_load(&dial.has_ended))
			wait_change(&dial);
		(void)ph_close(id, TAG, PH_GRACEFUL, 0, NULL);
		while (!atomic_load(&dial.has_ended))
			wait_change(&dial);
		fprintf(stderr, "tls_dial: reason %u, how %u, error %d, %s\n", dial.receipt.reason,
			dial.receipt.how, dial.receipt.error, dial.receipt.text);
	}
	if (status < 0)
		fprintf(stderr, "tls_dial: %s\n", strerror(-status));
	if (ph_hub_stop(hub, PH_ABORT) < 0 || fflush(stdout) != 0)
		return EXIT_FAILURE;
	trust_destroy(dial.trust);
	return status == 0 && dial.receipt.how == PH_GRACEFUL &&
			dial.receipt.reason == PH_REASON_LOCAL_CLOSE &&
			atomic_load(&dial.got) == dial.wanted
		? EXIT_SUCCESS
		: EXIT_FAILURE;
}
