/*
 * The reference model. Its rules:
 *   1  An id is handed out once. Its callbacks come in the order on_open, on_data and on_writable, on_closed;
 *      on_closed comes exactly once, nothing follows it, and no operation is with the kernel then.
 *   2  Of all ph_close calls for an id at most one returns 0. If one does, the end is local and has that
 *      call's reason, text and default reason; if none does, the end is not one that only ph_close makes.
 *   3  After a close has returned 0 no send is accepted, and on_open does not come.
 *   4  Every message arrives as it was sent, at the other end of its own connection, in the order of its
 *      sender and without gaps.
 *   5  Who hears the peer's goodbye has got every message that was accepted over there.
 *   6  A graceful local end that did not become an abort has dropped nothing, and its peer says so too: remote
 *      close or remote leaving, with the reason and the words of the close; unless the peer ended by itself.
 *   7  A receipt adds up: queued is what sends were accepted, sent + dropped = queued, acknowledged <= sent,
 *      messages of both ends agree, the times are in order.
 *   8  An opening that failed is called what the table says.
 */
#include "tests/sim/model.h"

#include "engine/shard.h"
#include "engine/wire.h"
#include "tests/sim/app.h"
#include "tests/sim/net.h"
#include "tests/sim/ring_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x50eeb0b5u
#define OPS_COUNTED ((1u << OP_COUNTED) - 1)

struct record model_records[RECORDS_MAX];
uint32_t model_count;

#define ID(record) ((unsigned long long)(record)->id)

/* ---- records ---------------------------------------------------------------------------------- */

struct record *model_new(struct app_hub *hub, bool dialled)
{
	struct record *record = &model_records[model_count];

	if (model_count == RECORDS_MAX)
		breach("the simulator itself: more than %u connections in one run", RECORDS_MAX);
	record->number = model_count++;
	record->hub = hub;
	record->dialled = dialled;
	return record;
}

struct record *model_find(uint64_t id)
{
	for (uint32_t i = model_count; i-- > 0;)
		if (model_records[i].has_id && model_records[i].id == id)
			return &model_records[i];
	return NULL;
}

void model_id(struct record *record, uint64_t id)
{
	struct record *other;

	if (record->has_id && record->id == id)
		return;
	other = model_find(id);
	if (id == 0)
		breach("the id 0 was handed out");
	if (record->has_id)
		breach("connection %u had id %llx and has %llx now", record->number, ID(record),
			(unsigned long long)id);
	if (other != NULL && other != record)
		breach("id %llx was handed out twice", (unsigned long long)id);
	record->has_id = true;
	record->id = id;
}

/* ---- messages --------------------------------------------------------------------------------- */

struct head {
	uint32_t magic, record, fiber, number, bytes, check;
};
_Static_assert(sizeof(struct head) == MODEL_HEAD_BYTES, "the head of a message");

static const uint8_t type_of_ours[16] = {0x51, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

const uint8_t *model_type(void)
{
	return type_of_ours;
}

static uint32_t head_check(const struct head *head)
{
	return head->record * 2654435761u ^ head->fiber * 40503u ^ head->number * 97u ^ head->bytes;
}

static uint8_t pattern(const struct head *head, size_t at)
{
	return (uint8_t)(head->check + at * 7 + (at >> 8));
}

size_t model_message(struct record *record, uint8_t *out, size_t bytes)
{
	struct head head = {.magic = MAGIC,
		.record = record->number,
		.fiber = fiber_number(),
		.number = record->sent[fiber_number()]};

	head.bytes = (uint32_t)(bytes < sizeof(head) ? sizeof(head) : bytes);
	head.check = head_check(&head);
	memcpy(out, &head, sizeof(head));
	for (size_t i = sizeof(head); i < head.bytes; i++)
		out[i] = pattern(&head, i);
	/* Counted before the call: it may be delivered before the call returns. */
	record->sent[fiber_number()]++;
	return head.bytes;
}

void model_accepted(struct record *record, int status, size_t bytes, bool was_dead)
{
	if (status == 0) {
		if (was_dead)
			breach("rule 3: %llx accepted a send after its close returned 0",
				ID(record));
		record->sent_bytes += bytes;
		record->sent_messages++;
		return;
	}
	record->sent[fiber_number()]--;
	if (status != -ENOENT && status != -EAGAIN && status != -ENOMEM)
		breach("ph_send of %llx returned %d", ID(record), status);
}

static void message_whole(struct record *record, const uint8_t *data, size_t bytes)
{
	struct head head;
	struct record *peer;

	memcpy(&head, data, sizeof(head));
	if (head.magic != MAGIC || head.check != head_check(&head) || head.bytes != bytes ||
		head.record >= model_count || head.fiber > FIBERS_MAX)
		breach("rule 4: %llx was given bytes that nobody sent", ID(record));
	for (size_t i = sizeof(head); i < bytes; i++)
		if (data[i] != pattern(&head, i))
			breach("rule 4: %llx was given a changed message", ID(record));
	peer = &model_records[head.record];
	if (record->peer == NULL && peer->peer == NULL) {
		record->peer = peer;
		peer->peer = record;
	}
	if (record->peer != peer)
		breach("rule 4: %llx was given a message of %llx, which is not its peer",
			ID(record), ID(peer));
	if (head.number != record->got[head.fiber])
		breach("rule 4: %llx was given message %u of sender %u after %u others", ID(record),
			head.number, head.fiber, record->got[head.fiber]);
	record->got[head.fiber]++;
	record->got_messages++;
	if (record->got[head.fiber] > peer->sent[head.fiber])
		breach("rule 4: %llx was given a message that was not accepted", ID(record));
}

static void stream_add(struct record *record, const uint8_t *data, size_t bytes)
{
	struct head head;
	size_t at = 0;

	if (record->stream_bytes + bytes > record->stream_capacity) {
		record->stream_capacity = 2 * (record->stream_bytes + bytes);
		record->stream = realloc(record->stream, record->stream_capacity);
		if (record->stream == NULL)
			breach("the simulator itself has no memory");
	}
	memcpy(record->stream + record->stream_bytes, data, bytes);
	record->stream_bytes += bytes;
	while (record->stream_bytes - at >= sizeof(head)) {
		memcpy(&head, record->stream + at, sizeof(head));
		if (head.magic != MAGIC || head.check != head_check(&head))
			breach("rule 4: %llx was given bytes that nobody sent", ID(record));
		if (record->stream_bytes - at < head.bytes)
			break;
		message_whole(record, record->stream + at, head.bytes);
		at += head.bytes;
	}
	record->stream_bytes -= at;
	memmove(record->stream, record->stream + at, record->stream_bytes);
}

void model_delivered(struct record *record, const uint8_t *type, const uint8_t *data, size_t bytes)
{
	if (record->framing == PH_FRAMING_RAW) {
		if (type != NULL)
			breach("raw data of %llx has a type", ID(record));
		stream_add(record, data, bytes);
		return;
	}
	if (type == NULL || memcmp(type, type_of_ours, sizeof(type_of_ours)) != 0)
		breach("rule 4: %llx was given another type than was sent", ID(record));
	if (bytes < sizeof(struct head))
		breach("rule 4: %llx was given a message of %zu bytes", ID(record), bytes);
	message_whole(record, data, bytes);
}

/* ---- callbacks ---------------------------------------------------------------------------------- */

/* Rule 9: of those that a hub has accepted no more are open at once than each of its limits lets in. */
static void limits_check(const struct record *record)
{
	const uint64_t *most = record->hub->limits_most;
	uint64_t all = 0, group = 0, identity = 0, twins = 0;

	for (uint32_t i = 0; i < model_count; i++) {
		const struct record *other = &model_records[i];
		bool same_group, same_identity;

		if (other->dialled || other->hub != record->hub || other->opened != 1 ||
			other->closed > 0)
			continue;
		same_group = strcmp(other->seen_group, record->seen_group) == 0;
		same_identity = record->seen_identity[0] != '\0' &&
			strcmp(other->seen_identity, record->seen_identity) == 0;
		all++;
		group += same_group;
		identity += same_identity;
		twins += same_group && same_identity && other->seen_kind == record->seen_kind;
	}
	/* Whose address could not be had counts for a subnet of its own. */
	if ((most[PH_LIMIT_CONNECTIONS] != 0 && all > most[PH_LIMIT_CONNECTIONS]) ||
		(most[PH_LIMIT_SUBNET] != 0 && all > most[PH_LIMIT_SUBNET] && sim_rates.name == 0))
		breach("rule 9: with %llx %llu connections are open", ID(record),
			(unsigned long long)all);
	if (most[PH_LIMIT_GROUP] != 0 && group > most[PH_LIMIT_GROUP])
		breach("rule 9: with %llx %llu connections of one group are open", ID(record),
			(unsigned long long)group);
	if (most[PH_LIMIT_IDENTITY] != 0 && identity > most[PH_LIMIT_IDENTITY])
		breach("rule 9: with %llx %llu connections of one identity are open", ID(record),
			(unsigned long long)identity);
	if (record->hub->options.duplicates == PH_DUPLICATES_OLDEST && twins > 1)
		breach("rule 9: %llx is a second connection of its identity", ID(record));
}

void model_on_open(struct record *record, const struct ph_open_info *info)
{
	if (record->opened > 0)
		breach("rule 1: on_open of %llx twice", ID(record));
	if (record->dead_unopened)
		breach("rule 3: on_open of %llx after its close returned 0", ID(record));
	if (record->verify_refused || record->connect_refused)
		breach("on_open of %llx, which was refused", ID(record));
	record->opened = 1;
	sim_count(SIM_opened);
	if ((info->accepted != 0) == record->dialled || info->tag != record->tag)
		breach("on_open of %llx tells another tag or direction", ID(record));
	strcpy(record->seen_group, info->group);
	strcpy(record->seen_identity, info->identity);
	record->seen_kind = info->kind;
	if (info->accepted)
		limits_check(record);
	if (record->framing == PH_FRAMING_RAW)
		return;
	/* node_id carries the record's number + 1, both ways. */
	if (info->node_id == 0 || info->node_id > model_count)
		breach("on_open of %llx: a node id that nobody sent", ID(record));
	struct record *peer = &model_records[info->node_id - 1];

	if ((record->peer != NULL && record->peer != peer) ||
		(peer->peer != NULL && peer->peer != record))
		breach("rule 4: %llx is open with %llx, which is not its peer", ID(record),
			ID(peer));
	record->peer = peer;
	peer->peer = record;
}

static void count_reason(const struct ph_receipt *receipt)
{
	static const struct {
		uint32_t reason;
		enum sim_event event;
	} list[] = {
		{PH_REASON_LOCAL_CLOSE, SIM_reason_local_close},
		{PH_REASON_LOCAL_ABORT, SIM_reason_local_abort},
		{PH_REASON_LOCAL_GROUP_END, SIM_reason_group_end},
		{PH_REASON_LOCAL_STOP, SIM_reason_stop},
		{PH_REASON_REMOTE_CLOSE, SIM_reason_remote_close},
		{PH_REASON_REMOTE_RESET, SIM_reason_remote_reset},
		{PH_REASON_REMOTE_TRUNCATED, SIM_reason_remote_truncated},
		{PH_REASON_REMOTE_REFUSED, SIM_reason_remote_refused},
		{PH_REASON_REMOTE_LEAVING, SIM_reason_remote_leaving},
		{PH_REASON_LIMIT_MEMORY, SIM_reason_limit_memory},
		{PH_REASON_TRANSPORT_CONNECT, SIM_reason_connect},
		{PH_REASON_TRANSPORT_CONNECT_TIMEOUT, SIM_reason_connect_timeout},
		{PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT, SIM_reason_handshake_timeout},
		{PH_REASON_TRANSPORT_WELCOME_TIMEOUT, SIM_reason_welcome_timeout},
		{PH_REASON_TRANSPORT_DEAD, SIM_reason_dead},
		{PH_REASON_TRANSPORT_HANDSHAKE_LOST, SIM_reason_handshake_lost},
		{PH_REASON_TRANSPORT_ERROR, SIM_reason_transport},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (list[i].reason == receipt->reason)
			sim_count(list[i].event);
	if (receipt->reason >= 6000 && receipt->reason < 7000)
		sim_count(SIM_reason_protocol);
	if (receipt->reason >= 5000 && receipt->reason < 6000 &&
		receipt->reason != PH_REASON_LIMIT_MEMORY)
		sim_count(receipt->refuse_code != 0 ? SIM_refused_told
				: receipt->reason == PH_REASON_LIMIT_DUPLICATE
				? SIM_reason_duplicate
				: receipt->was_open ? SIM_limit_in_open
						    : SIM_refused_reset);
	if (receipt->peer_retry_after_ms != 0)
		sim_count(SIM_retry_after_heard);
	sim_count(receipt->how == PH_GRACEFUL ? SIM_ended_graceful : SIM_ended_abort);
	if (receipt->bytes_dropped > 0)
		sim_count(SIM_dropped_bytes);
}

static void times_check(const struct record *record, const struct ph_receipt *receipt)
{
	uint64_t times[] = {receipt->time_begin_ns, receipt->time_open_ns, receipt->time_close_ns,
		receipt->time_end_ns};
	uint64_t last = 0;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (times[i] != 0 && times[i] < last)
			breach("rule 7: the times of %llx go backwards", ID(record));
		if (times[i] != 0)
			last = times[i];
	}
}

/* What an opening that failed is called (docs/close.md). */
static enum ph_failure failure_expected(const struct ph_receipt *receipt)
{
	if (receipt->was_open)
		return PH_FAILURE_NONE;
	switch (receipt->reason) {
	case PH_REASON_REMOTE_REFUSED:
		return PH_FAILURE_REFUSED;
	case PH_REASON_TRANSPORT_CONNECT:
	case PH_REASON_TRANSPORT_CONNECT_TIMEOUT:
	case PH_REASON_TRANSPORT_WELCOME_TIMEOUT:
		return PH_FAILURE_CONNECT;
	default:
		return receipt->side == PH_SIDE_LOCAL ? PH_FAILURE_CONNECT
						      : PH_FAILURE_AUTHENTICATION;
	}
}

void model_on_closed(struct record *record, const struct ph_receipt *receipt)
{
	const struct shard *shard = shard_self();
	const struct net_socket *socket;
	uint64_t owner = (uint64_t)slot_id_slot(record->id) << 32 | slot_id_generation(record->id);

	if (record->closed++ > 0)
		breach("rule 1: on_closed of %llx twice", ID(record));
	sim_count(SIM_closed);
	record->receipt = *receipt;
	count_reason(receipt);
	if (receipt->id != record->id)
		breach("rule 7: the receipt of %llx names another id", ID(record));
	if ((receipt->was_open != 0) != (record->opened == 1))
		breach("rule 7: the receipt of %llx is wrong about on_open", ID(record));
	if (receipt->bytes_sent + receipt->bytes_dropped != receipt->bytes_queued ||
		receipt->bytes_sent > receipt->bytes_queued ||
		receipt->bytes_acknowledged > receipt->bytes_sent)
		breach("rule 7: the bytes of %llx do not add up: queued %llu sent %llu "
		       "dropped %llu acknowledged %llu",
			ID(record), (unsigned long long)receipt->bytes_queued,
			(unsigned long long)receipt->bytes_sent,
			(unsigned long long)receipt->bytes_dropped,
			(unsigned long long)receipt->bytes_acknowledged);
	if (shard == NULL || shard->home->index != slot_id_home(record->id))
		breach("rule 1: on_closed of %llx on a strange thread", ID(record));
	if (ring_sim_holds(shard->ring, OPS_COUNTED, slot_id_slot(record->id),
		    slot_id_generation(record->id)))
		breach("rule 1: on_closed of %llx while the kernel holds an operation of it",
			ID(record));
	socket = net_find_owned(shard->ring, owner);
	/* Whose peer aborted and was refused the reset sees a FIN like that of an orderly end. */
	record->reset_was_refused =
		socket != NULL && socket->peer != NULL && socket->peer->refused_disconnect;
	if (socket != NULL && !record->reset_was_refused &&
		socket->out.arrived_ever < receipt->bytes_acknowledged)
		breach("rule 7: %llx says %llu bytes are acknowledged, %llu have arrived",
			ID(record), (unsigned long long)receipt->bytes_acknowledged,
			(unsigned long long)socket->out.arrived_ever);
	times_check(record, receipt);
	if ((record->dialled || !receipt->was_open) && record->dialled &&
		receipt->failure != failure_expected(receipt))
		breach("rule 8: the failure of %llx (reason %u) is called %d", ID(record),
			receipt->reason, (int)receipt->failure);
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static bool reason_is_of_close(uint32_t reason)
{
	return reason == PH_REASON_LOCAL_CLOSE || reason == PH_REASON_LOCAL_ABORT ||
		(reason >= APP_REASON_CLOSE && reason < APP_REASON_CLOSE + 100);
}

static void end_check_close(const struct record *record)
{
	const struct ph_receipt *receipt = &record->receipt;
	uint32_t expected = record->reason;

	if (record->wins > 1)
		breach("rule 2: %u closes of %llx returned 0", record->wins, ID(record));
	if (record->wins == 0) {
		if (receipt->side == PH_SIDE_LOCAL && reason_is_of_close(receipt->reason))
			breach("rule 2: %llx ended with reason %u, and no close returned 0",
				ID(record), receipt->reason);
		return;
	}
	if (expected == 0)
		expected = record->how == PH_ABORT ? PH_REASON_LOCAL_ABORT : PH_REASON_LOCAL_CLOSE;
	if (receipt->side != PH_SIDE_LOCAL || receipt->reason != expected)
		breach("rule 2: %llx was closed here for %u, its receipt says side %d reason %u",
			ID(record), expected, (int)receipt->side, receipt->reason);
	if (strcmp(receipt->text, record->text) != 0)
		breach("rule 2: %llx was closed with the text '%s', its receipt says '%s'",
			ID(record), record->text, receipt->text);
	if (record->how == PH_ABORT && receipt->how != PH_ABORT)
		breach("rule 2: %llx was aborted and its receipt says graceful", ID(record));
	if (record->how == PH_ABORT && record->upgrades > 0)
		breach("rule 2: a close of %llx upgraded an abort", ID(record));
}

static bool has_heard_goodbye(const struct record *record)
{
	const struct ph_receipt *receipt = &record->receipt;

	/* On a raw stream without TLS a FIN is all the goodbye there is. */
	if (record->reset_was_refused && record->framing == PH_FRAMING_RAW &&
		record->tls == PH_TLS_NONE)
		return false;
	return record->opened == 1 && receipt->side == PH_SIDE_REMOTE &&
		(receipt->reason == PH_REASON_REMOTE_CLOSE ||
			receipt->reason == PH_REASON_REMOTE_LEAVING);
}

/* record got what its peer sent. */
static void end_check_delivery(const struct record *record)
{
	const struct record *peer = record->peer;
	bool whole = true;

	for (uint32_t fiber = 0; fiber <= FIBERS_MAX; fiber++) {
		if (record->got[fiber] > peer->sent[fiber])
			breach("rule 4: %llx got %u messages of sender %u, %u were accepted",
				ID(record), record->got[fiber], fiber, peer->sent[fiber]);
		if (record->got[fiber] < peer->sent[fiber])
			whole = false;
	}
	if (record->opened == 1)
		sim_count(whole ? SIM_whole_delivery : SIM_cut_delivery);
	if (!whole && has_heard_goodbye(record))
		breach("rule 5: %llx heard the goodbye of %llx, but got %llu of %llu messages",
			ID(record), ID(peer), (unsigned long long)record->got_messages,
			(unsigned long long)peer->sent_messages);
	if (record->framing == PH_FRAMING_MESSAGE &&
		record->receipt.messages_received > peer->receipt.messages_sent)
		breach("rule 7: %llx received %llu messages, %llx sent %llu", ID(record),
			(unsigned long long)record->receipt.messages_received, ID(peer),
			(unsigned long long)peer->receipt.messages_sent);
	if (record->framing == PH_FRAMING_MESSAGE &&
		record->receipt.messages_received != record->got_messages)
		breach("rule 7: %llx got %llu messages, its receipt says %llu", ID(record),
			(unsigned long long)record->got_messages,
			(unsigned long long)record->receipt.messages_received);
}

/* record ended gracefully here: what its peer must say. */
static void end_check_peer(const struct record *record)
{
	const struct ph_receipt *mine = &record->receipt, *theirs = &record->peer->receipt;
	bool leaving = mine->reason == PH_REASON_LOCAL_GROUP_END ||
		mine->reason == PH_REASON_LOCAL_STOP || mine->reason == PH_REASON_LOCAL_DRAIN;
	uint32_t expected = leaving && record->framing == PH_FRAMING_MESSAGE
		? PH_REASON_REMOTE_LEAVING
		: PH_REASON_REMOTE_CLOSE;

	if (record->peer->opened == 0 || theirs->side != PH_SIDE_REMOTE)
		return;
	if (theirs->reason != expected)
		breach("rule 6: %llx ended gracefully for %u, %llx says %u instead of %u",
			ID(record), mine->reason, ID(record->peer), theirs->reason, expected);
	if (record->framing == PH_FRAMING_RAW || leaving)
		return;
	if (theirs->peer_reason !=
		(mine->reason == PH_REASON_LOCAL_CLOSE && mine->text[0] == '\0' ? 0 : mine->reason))
		breach("rule 6: %llx closed for %u, %llx was told %u", ID(record), mine->reason,
			ID(record->peer), theirs->peer_reason);
	if (strcmp(theirs->peer_text, mine->text) != 0)
		breach("rule 6: %llx closed with '%s', %llx was told '%s'", ID(record), mine->text,
			ID(record->peer), theirs->peer_text);
}

/* With the heads that framing adds: only now, because an accepted connection can be sent on before its on_open
 * has told the framing. */
static uint64_t bytes_accepted(const struct record *record)
{
	uint64_t head = record->framing == PH_FRAMING_MESSAGE ? WIRE_PT2PT_BYTES : 0;

	return record->sent_bytes + record->sent_messages * head;
}

void model_end(void)
{
	for (uint32_t i = 0; i < model_count; i++) {
		struct record *record = &model_records[i];
		const struct ph_receipt *receipt = &record->receipt;

		if (!record->has_id)
			continue; /* ph_open refused it */
		if (record->closed != 1)
			breach("rule 1: %llx had %u last events", ID(record), record->closed);
		if (receipt->bytes_queued != bytes_accepted(record))
			breach("rule 7: %llx accepted %llu bytes, its receipt says %llu",
				ID(record), (unsigned long long)bytes_accepted(record),
				(unsigned long long)receipt->bytes_queued);
		end_check_close(record);
		if (record->peer != NULL)
			end_check_delivery(record);
		if (record->opened == 1 && receipt->side == PH_SIDE_LOCAL &&
			receipt->how == PH_GRACEFUL) {
			/* A peer that has said goodbye itself reads no more. */
			if (receipt->bytes_dropped != 0 && record->peer != NULL &&
				record->peer->receipt.side == PH_SIDE_REMOTE)
				breach("rule 6: %llx ended gracefully and dropped %llu bytes",
					ID(record), (unsigned long long)receipt->bytes_dropped);
			if (record->peer != NULL)
				end_check_peer(record);
		}
		free(record->stream);
	}
}
