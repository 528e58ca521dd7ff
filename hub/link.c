/*
 * link.c: see link.h.
 */
#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "names.h"
#include "peerhub/extras.h"
#include "say.h"

#define RETRY_MS 500u /* between attempts */
#define RETRY_MS_MAX 15000u /* after many: the other end may be away for long */
#define NEIGHBOR_RETRY_MS 50u /* the neighbor's name appears together with HAS_CONNECTIONS */

int link_init(struct link *link, const char *identity, const char *address_text)
{
	*link = (struct link){.address_text = address_text, .retry_ms = RETRY_MS};
	if (names_address(address_text, &link->address) < 0)
		return -EINVAL;
	if (identity == NULL)
		return 0;
	link->identity = strdup(identity);
	if (link->identity != NULL)
		return 0;
	say_error("out of memory");
	return -ENOMEM;
}

void link_fini(struct link *link)
{
	free(link->identity);
	link->identity = NULL;
}

static void link_dead(struct link *link, const char *why)
{
	say_error("no connection to %s: %s", link->address_text, why);
	link->state = LINK_DEAD;
	link->connection = 0;
}

/* An attempt failed, or a connection that is still wanted is gone. */
static void link_retry(struct link *link, HRESULT reason, uint64_t now_ms)
{
	link->state = LINK_DOWN;
	link->connection = 0;
	if (link->give_up_ms < link->retry_ms || now_ms > link->give_up_ms - link->retry_ms) {
		link_dead(link, PeerhubResultName(reason));
		return;
	}
	link->retry_at_ms = now_ms + link->retry_ms;
	if (link->retry_ms < RETRY_MS_MAX)
		link->retry_ms *= 2;
}

static void link_open(struct link *link, struct node *node, uint64_t now_ms)
{
	HRESULT result;
	WCHAR *wide;

	if (link->identity == NULL)
		link->identity = node_neighbor(node, &link->address);
	if (link->identity == NULL) {
		link->retry_at_ms = now_ms + NEIGHBOR_RETRY_MS;
		if (now_ms >= link->give_up_ms)
			link_dead(link, "no member of the group answers there");
		return;
	}
	wide = names_wide(link->identity);
	if (wide == NULL) {
		link_dead(link, "its name is not text");
		return;
	}
	result =
		PeerGroupOpenDirectConnection(node->group, wide, &link->address, &link->connection);
	free(wide);
	if (SUCCEEDED(result))
		link->state = LINK_OPENING;
	else if (result == PEER_E_CONNECT_SELF)
		link_dead(link, "that is this peer itself");
	else if (result == E_OUTOFMEMORY || result == PEER_E_GROUP_NOT_READY)
		link_retry(link, result, now_ms);
	else
		link_dead(link, PeerhubResultName(result));
}

uint64_t link_step(struct link *link, struct node *node, uint64_t now_ms)
{
	if (link->state == LINK_DOWN && now_ms >= link->retry_at_ms)
		link_open(link, node, now_ms);
	return link->state == LINK_DOWN ? link->retry_at_ms : LOOP_NEVER;
}

bool link_on_change(
	struct link *link, const PEER_EVENT_CONNECTION_CHANGE_DATA *change, uint64_t now_ms)
{
	switch (change->status) {
	case PEER_CONNECTED:
		link->state = LINK_OPEN;
		link->retry_ms = RETRY_MS;
		say_note("connected to %s at %s", link->identity, link->address_text);
		return false;
	case PEER_CONNECTION_FAILED:
		link_retry(link, change->hrConnectionFailedReason, now_ms);
		return false;
	case PEER_DISCONNECTED:
		break;
	}
	if (!link->keep) {
		link_dead(link, "it was closed");
		return true;
	}
	say_note("lost %s, connecting again", link->address_text);
	link->give_up_ms = LOOP_NEVER;
	link_retry(link, PEER_E_CONNECTION_FAILED, now_ms);
	return true;
}
