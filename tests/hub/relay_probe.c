/*
 * relay_probe.c: a member that sends whatever it is told to, right or wrong, and says what comes
 * back. For tests/hub/relay_test.sh.
 *
 *   relay_probe HOME INVITATION IDENTITY HOST:PORT COUNT HEX...
 *
 * Connects to IDENTITY there and sends each HEX as the payload of one relay message. Then prints, each
 * on a line: "connected", "data HEX" for each relay message, "disconnected", "failed". Ends with 0
 * when disconnected or after COUNT data lines, with 1 after 50 seconds. COUNT "stall": reads no event
 * after "connected", until it is told to end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/files.h"
#include "hub/loop.h"
#include "hub/names.h"
#include "hub/node.h"
#include "hub/relay.h"
#include "hub/say.h"
#include "peerhub/extras.h"

#define SECONDS_MAX 50u

static const uint8_t type[16] = RELAY_TYPE_BYTES;

struct probe {
	struct node node;
	PEER_ADDRESS address;
	WCHAR *identity;
	ULONGLONG connection;
	char **messages;
	int message_count;
	unsigned long count; /* data lines that may still come */
	bool stall, opened, connected, over;
};

static void send_hex(struct probe *probe, const char *hex)
{
	static uint8_t data[1 << 16];
	size_t bytes = strlen(hex) / 2;
	unsigned value;

	if (bytes > sizeof(data))
		bytes = sizeof(data);
	for (size_t i = 0; i < bytes; i++) {
		if (sscanf(hex + 2 * i, "%2x", &value) != 1)
			value = 0;
		data[i] = (uint8_t)value;
	}
	if (node_send(&probe->node, probe->connection, type, data, bytes) != 0)
		say_error("not sent");
}

static void on_connection(struct probe *probe, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	if (change->ullConnectionId != probe->connection)
		return;
	if (change->status == PEER_CONNECTED) {
		probe->connected = true;
		(void)say_line("connected");
		for (int i = 0; i < probe->message_count; i++)
			send_hex(probe, probe->messages[i]);
		return;
	}
	(void)say_line("%s", change->status == PEER_DISCONNECTED ? "disconnected" : "failed");
	probe->over = true;
}

static void on_data(struct probe *probe, const PEER_EVENT_INCOMING_DATA *incoming)
{
	char *hex = calloc(incoming->data.cbData + 1, 2);

	for (ULONG i = 0; hex != NULL && i < incoming->data.cbData; i++)
		sprintf(hex + 2 * i, "%02x", incoming->data.pbData[i]);
	if (hex != NULL)
		(void)say_line("data %s", hex);
	free(hex);
	if (--probe->count == 0)
		probe->over = true;
}

static void open_once(struct probe *probe)
{
	HRESULT result;

	if (probe->opened || !(node_status(&probe->node) & PEER_GROUP_STATUS_HAS_CONNECTIONS))
		return;
	probe->opened = true;
	result = PeerGroupOpenDirectConnection(
		probe->node.group, probe->identity, &probe->address, &probe->connection);
	if (FAILED(result)) {
		say_result(result, "cannot open");
		probe->over = true;
	}
}

static void turn(struct probe *probe)
{
	PPEER_GROUP_EVENT_DATA event;

	node_events_begin(&probe->node);
	while (!probe->over && !(probe->stall && probe->connected) &&
		node_event(&probe->node, &event) > 0) {
		if (event->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION)
			on_connection(probe, &event->connectionChangeData);
		if (event->eventType == PEER_GROUP_EVENT_INCOMING_DATA)
			on_data(probe, &event->incomingData);
		PeerFreeData(event);
	}
	open_once(probe);
}

static int run(struct probe *probe)
{
	uint64_t end_ms = loop_now_ms() + SECONDS_MAX * 1000;
	struct pollfd polls[2];

	if (FAILED(PeerGroupConnectByAddress(probe->node.group, 1, &probe->address)))
		return 1;
	while (!probe->over && loop_signal() == 0 && loop_now_ms() < end_ms) {
		turn(probe);
		polls[1] = (struct pollfd){.fd = probe->node.event_fd, .events = POLLIN};
		if (!probe->over && loop_wait(polls, 2, loop_now_ms() + 50) < 0)
			return 1;
	}
	return probe->over || probe->stall ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct probe probe = {.node = {.event_fd = -1}};
	char *text, *self;
	int code = 1;

	if (argc < 6)
		return 2;
	probe.stall = strcmp(argv[5], "stall") == 0;
	probe.count = strtoul(argv[5], NULL, 10);
	probe.messages = argv + 6;
	probe.message_count = argc - 6;
	say_begin("relay_probe", false);
	if (loop_begin() < 0 || FAILED(PeerhubSetHome(argv[1])) ||
		FAILED(PeerhubSetListen("[::1]:0")) || names_address(argv[4], &probe.address) < 0 ||
		!names_startup())
		return 1;
	text = files_read_text(argv[2]);
	self = names_identity(NULL);
	probe.identity = names_wide(argv[3]);
	if (text != NULL && self != NULL && probe.identity != NULL &&
		node_join(&probe.node, self, text, argv[2]) == 0)
		code = run(&probe);
	node_end(&probe.node);
	(void)PeerGroupShutdown();
	free(probe.identity);
	free(text);
	free(self);
	return code;
}
