/*
 * many_peers.c: one member with many direct connections to a hub, for the tests of what shows them.
 *
 *   many_peers HOME INVITATION IDENTITY HOST:PORT COUNT [talk|churn]
 *
 * Prints "open COUNT" once they all are, then "left N" whenever there are fewer. `talk` sends small messages of a type
 * that the hub ignores on some of them; `churn` closes and opens some again as well. Ends on a signal or after half
 * an hour.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/files.h"
#include "hub/loop.h"
#include "hub/names.h"
#include "hub/node.h"
#include "hub/say.h"
#include "hub/text.h"
#include "peerhub/extras.h"

#define SECONDS_MAX 1800u
#define COUNT_MAX 16384u
#define OPENING_MAX 64u /* at once */

struct many {
	struct node node;
	PEER_ADDRESS address;
	WCHAR *identity;
	ULONGLONG connections[COUNT_MAX];
	uint64_t count, open, opening, wanted;
	bool talks, churns, was_complete;
	uint64_t talk_ms;
	unsigned turn;
};

static void on_connection(struct many *many, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	if (change->status == PEER_CONNECTED && many->open < COUNT_MAX) {
		many->connections[many->open++] = change->ullConnectionId;
		if (many->opening > 0)
			many->opening--;
		return;
	}
	if (change->status != PEER_DISCONNECTED && many->opening > 0)
		many->opening--;
	for (uint64_t i = 0; i < many->open; i++)
		if (many->connections[i] == change->ullConnectionId) {
			many->connections[i] = many->connections[--many->open];
			break;
		}
	if (many->was_complete && !many->churns) {
		many->wanted = many->open; /* what the hub closed stays closed */
		(void)say_line("left %" PRIu64, many->open);
	}
}

static void take_events(struct many *many)
{
	PPEER_GROUP_EVENT_DATA event;

	node_events_begin(&many->node);
	while (node_event(&many->node, &event) > 0) {
		if (event->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION)
			on_connection(many, &event->connectionChangeData);
		PeerFreeData(event);
	}
}

static int open_some(struct many *many)
{
	ULONGLONG connection;
	HRESULT result;

	while (many->opening < OPENING_MAX && many->open + many->opening < many->wanted) {
		result = PeerGroupOpenDirectConnection(
			many->node.group, many->identity, &many->address, &connection);
		if (FAILED(result)) {
			say_result(result, "cannot open");
			return -EIO;
		}
		many->opening++;
	}
	if (many->open == many->count && !many->was_complete) {
		many->was_complete = true;
		(void)say_line("open %" PRIu64, many->open);
	}
	return 0;
}

/* Ten times a second: every seventh one says something, of a size of its own. */
static void talk(struct many *many, uint64_t now_ms)
{
	static const uint8_t type[16] = {'m', 'a', 'n', 'y'};
	static const uint8_t data[8192];
	HRESULT result;

	if (!many->talks || now_ms < many->talk_ms || !many->was_complete)
		return;
	many->talk_ms = now_ms + 100;
	many->turn++;
	for (uint64_t i = many->turn % 7; i < many->open; i += 7)
		if (node_send(&many->node, many->connections[i], type, data,
			    (size_t)(i * 37 % sizeof(data))) == -EIO)
			return;
	for (uint64_t i = 0; many->churns && i < 3 && many->open > 3; i++) {
		result = PeerGroupCloseDirectConnection(
			many->node.group, many->connections[many->turn * 3 % many->open]);
		if (FAILED(result) && result != PEER_E_CONNECTION_NOT_FOUND)
			say_result(result, "cannot close");
	}
}

static int run(struct many *many)
{
	uint64_t now_ms = loop_now_ms(), end_ms = now_ms + SECONDS_MAX * 1000;
	struct pollfd polls[2];

	if (FAILED(PeerGroupConnectByAddress(many->node.group, 1, &many->address)))
		return 1;
	while (loop_signal() == 0 && now_ms < end_ms) {
		take_events(many);
		if (node_status(&many->node) & PEER_GROUP_STATUS_HAS_CONNECTIONS &&
			open_some(many) < 0)
			return 1;
		talk(many, now_ms);
		polls[1] = (struct pollfd){.fd = many->node.event_fd, .events = POLLIN};
		if (loop_wait(polls, 2, now_ms + 100) < 0)
			return 1;
		now_ms = loop_now_ms();
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct many many = {.node = {.event_fd = -1}};
	char *text = NULL, *self = NULL;
	int code = 1;

	if (argc < 6 || !text_number(argv[5], 1, COUNT_MAX, &many.count))
		return 2;
	many.wanted = many.count;
	many.talks = argc > 6;
	many.churns = argc > 6 && strcmp(argv[6], "churn") == 0;
	say_begin("many_peers", true);
	if (loop_begin() < 0 || FAILED(PeerhubSetHome(argv[1])) ||
		FAILED(PeerhubSetListen("[::1]:0")) || !names_startup())
		return 1;
	many.identity = names_wide(argv[3]);
	self = names_identity(NULL);
	text = files_read_text(argv[2]);
	if (many.identity != NULL && self != NULL && text != NULL &&
		names_address(argv[4], &many.address) == 0 &&
		node_join(&many.node, self, text, argv[2]) == 0)
		code = run(&many);
	node_end(&many.node);
	free(text);
	free(self);
	free(many.identity);
	(void)PeerGroupShutdown();
	return code;
}
