/*
 * link.c: see link.h.
 */
#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "loop.h"
#include "names.h"
#include "peerhub/extras.h"
#include "say.h"

#define RETRY_MS 500u /* between attempts */
#define RETRY_MS_MAX 15000u /* after many: the other end may be away for long */
#define NEIGHBOR_RETRY_MS 50u /* the neighbor's name appears together with HAS_CONNECTIONS */
#define NEIGHBOR_WAIT_MS 10000u /* for the neighbor connection to another place */

static void place_take(struct link *link, size_t place)
{
	link->place = place;
	link->address = link->places[place].address;
	link->address_text = link->places[place].address_text;
	link->identity = link->places[place].identity;
	link->neighbor_until_ms = 0;
}

int link_add(struct link *link, const char *identity, const char *address_text)
{
	struct link_place *place = &link->places[link->place_count];

	if (link->place_count == LINK_PLACES_MAX) {
		say_error("more than %u addresses", LINK_PLACES_MAX);
		return -ENOSPC;
	}
	*place = (struct link_place){.address_text = address_text};
	if (names_address(address_text, &place->address) < 0)
		return -EINVAL;
	if (identity != NULL) {
		place->identity = strdup(identity);
		if (place->identity == NULL) {
			say_error("out of memory");
			return -ENOMEM;
		}
	}
	link->place_count++;
	return 0;
}

int link_init(struct link *link, const char *identity, const char *address_text)
{
	int status;

	*link = (struct link){.state = LINK_DOWN};
	backoff_init(&link->backoff, RETRY_MS, RETRY_MS_MAX, 0);
	backoff_init(&link->online_backoff, RETRY_MS, RETRY_MS, 0);
	status = link_add(link, identity, address_text);
	if (status == 0)
		place_take(link, 0);
	return status;
}

void link_fini(struct link *link)
{
	for (size_t i = 0; i < link->place_count; i++)
		free(link->places[i].identity);
	link->place_count = 0;
	link->identity = NULL;
}

/* The next place, of those in turn the one that may be dialled first, and when that is. */
static uint64_t link_turn(struct link *link, struct backoff *backoff, uint64_t now_ms)
{
	uint64_t until_ms = UINT64_MAX;
	size_t best = link->place;

	for (size_t i = 1; i <= link->place_count; i++) {
		size_t place = (link->place + i) % link->place_count;
		uint64_t here_ms = asked_until_ms(&link->places[place].address.sin6, now_ms);

		if (here_ms < until_ms) {
			until_ms = here_ms;
			best = place;
		}
	}
	place_take(link, best);
	if (until_ms > now_ms)
		backoff_asked(backoff, now_ms, (uint32_t)(until_ms - now_ms));
	return backoff_next(backoff, now_ms);
}

uint64_t link_online_failed(struct link *link, uint64_t now_ms)
{
	return link_turn(link, &link->online_backoff, now_ms);
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
	link->retry_at_ms = link_turn(link, &link->backoff, now_ms);
	if (link->retry_at_ms > link->give_up_ms)
		link_dead(link, PeerhubResultName(reason));
}

void link_neighbor_failed(struct link *link, HRESULT reason, uint64_t now_ms)
{
	if (link->state == LINK_DOWN && link->neighbor_until_ms != 0)
		link_retry(link, reason, now_ms);
}

/* Who is at this place? The neighbor connection tells: the one by which we went online, or another. */
static void link_identify(struct link *link, struct node *node, uint64_t now_ms)
{
	bool is_one_of_many = link->place_count > 1;
	HRESULT result = S_OK;

	link->places[link->place].identity = node_neighbor(node, &link->address, is_one_of_many);
	link->identity = link->places[link->place].identity;
	if (link->identity != NULL)
		return;
	if (now_ms >= link->give_up_ms) {
		link_dead(link, "no member of the group answers there");
		return;
	}
	link->retry_at_ms = now_ms + NEIGHBOR_RETRY_MS;
	if (!is_one_of_many)
		return;
	if (link->neighbor_until_ms == 0) {
		link->neighbor_until_ms = now_ms + NEIGHBOR_WAIT_MS;
		result = PeerGroupConnectByAddress(node->group, 1, &link->address);
	}
	if (FAILED(result) || now_ms >= link->neighbor_until_ms)
		link_retry(link, FAILED(result) ? result : PEER_E_CONNECTION_FAILED, now_ms);
}

static void link_open(struct link *link, struct node *node, uint64_t now_ms)
{
	HRESULT result;
	WCHAR *wide;

	if (link->identity == NULL)
		link_identify(link, node, now_ms);
	if (link->identity == NULL || link->state != LINK_DOWN || link->retry_at_ms > now_ms)
		return;
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
		backoff_reset(&link->backoff);
		backoff_reset(&link->online_backoff);
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
