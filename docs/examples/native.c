/*
 * The smallest native program: listen, connect to ourselves, say hello, hear it back, close.
 * Framing raw and TLS none are named because they are not the defaults.
 */
#include <peerhub.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#define TAG 1 /* every id is used together with the tag of its owner */

static char caller[] =
	"caller"; /* `user` of the connection that we open; accepted ones have NULL */
static sem_t closed;

/* Without TLS the chain is empty: whoever reaches the loopback address is welcome. */
static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	(void)hub_user, (void)id, (void)accepted, (void)sni, (void)expected, (void)chain;
	verdict->tag = TAG;
	return 0;
}

static int say(uint64_t id, const void *data, size_t bytes)
{
	const struct ph_part part = {.data = data, .bytes = bytes};

	return ph_send(id, TAG, NULL, &part, 1);
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	(void)hub_user, (void)info;
	if (user == caller && say(id, "hello", 5) < 0)
		ph_close(id, TAG, PH_ABORT, 0, "hello was not accepted");
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	(void)hub_user, (void)type;
	if (user != caller)
		return say(id, data, bytes); /* the accepted side gives back what came */
	printf("heard %.*s\n", (int)bytes, (const char *)data);
	ph_close(id, TAG, PH_GRACEFUL, 0, NULL);
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	(void)hub_user, (void)id;
	printf("%s: %s\n", user == caller ? "caller" : "listener", ph_reason_name(receipt->reason));
	sem_post(&closed);
}

static int fail(const char *what, int status)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-status));
	return 1;
}

int main(void)
{
	const struct ph_options options = {.size = sizeof(options), .shard_count = 1};
	const struct ph_callbacks callbacks = {.on_verify = on_verify,
		.on_open = on_open,
		.on_data = on_data,
		.on_closed = on_closed};
	struct ph_listen_options listener = {
		.framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE, .tag = TAG};
	struct ph_open_options opening = {.kind = PH_KIND_RAW,
		.framing = PH_FRAMING_RAW,
		.tls = PH_TLS_NONE,
		.tag = TAG,
		.user = caller};
	char why[PH_WHY_BYTES] = "";
	struct ph_hub *hub;
	uint64_t id;
	int status, stopped;

	sem_init(&closed, 0, 0);
	status = ph_hub_start(&options, &callbacks, &hub, why);
	if (status < 0) {
		fprintf(stderr, "cannot start: %s\n", why);
		return 1;
	}
	status = ph_address_parse("127.0.0.1:0", &listener.address);
	if (status == 0)
		status = ph_listen(hub, &listener, &opening.address);
	if (status >= 0)
		status = ph_open(hub, &opening, &id);
	if (status == 0) {
		sem_wait(&closed);
		sem_wait(&closed);
	} else {
		fail("cannot connect", status);
	}
	stopped = ph_hub_stop(hub, PH_GRACEFUL);
	if (stopped < 0)
		return fail("cannot stop", stopped);
	return status == 0 ? 0 : 1;
}
