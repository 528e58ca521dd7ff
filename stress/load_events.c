/* Seats: what happens to them in callbacks, and the calls that act on them; see load.h. */
#include "fault_ring.h"
#include "load.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEAT_NONE UINT32_MAX

static uint64_t serial_of(const void *user)
{
	return (uint64_t)(uintptr_t)user;
}

static struct seat *seat_find(struct load *load, uint64_t serial)
{
	uint32_t number = atomic_load(&load->seat_of[serial & load->serial_mask]);

	return serial != 0 && number != 0 ? &load->seats[number - 1] : NULL;
}

/* The first callback on a shard's thread tells whose CPU time that is. */
static void clock_note(struct load_hub *hub)
{
	static _Thread_local bool is_noted;
	uint32_t place;

	if (is_noted)
		return;
	is_noted = true;
	place = atomic_load(&hub->clock_count);
	do {
		if (place == PH_SHARDS_MAX)
			return;
	} while (!atomic_compare_exchange_weak(&hub->clock_count, &place, place + 1));
	if (pthread_getcpuclockid(pthread_self(), &hub->clocks[place]) != 0)
		hub->clocks[place] = (clockid_t)0;
}

/* ---- callbacks -------------------------------------------------------------------------- */

static int group_of(const struct load *load, const char *format, const char *text, uint32_t *group)
{
	char tail = '\0';
	int fields = text == NULL ? 0 : sscanf(text, format, group, &tail);

	return fields < 1 || *group >= load->options.groups ? -EINVAL : 0;
}

/* A byte may be another on its way: a hello then says what nobody wrote, until TLS notices. */
static bool may_be_damaged(const struct load *load)
{
	const struct faults *faults = &load->options.faults;

	for (uint32_t index = 0; index < faults->count; index++)
		if (faults->items[index].kind == FAULT_DAMAGE)
			return true;
	return false;
}

static int load_on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	struct load_hub *hub = hub_user;
	struct load *load = hub->load;
	uint32_t group;

	clock_note(hub);
	if (group_of(load, "any.g%u.p2%c", sni, &group) < 0) {
		if (!may_be_damaged(load))
			audit_violation(
				load->audit, 0, "on_hello with the server name \"%s\"", sni);
		return -EINVAL;
	}
	answer->credentials = ph_credentials_get(certs_credentials(load->certs));
	snprintf(answer->group, sizeof(answer->group), "g%u", group);
	snprintf(answer->identity, sizeof(answer->identity), "stress");
	return 0;
}

static int chain_check(struct load *load, const struct ph_chain *chain)
{
	if (load->certs == NULL)
		return chain->count == 0 ? 0 : -EACCES;
	return certs_verify(load->certs, chain);
}

static int load_on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct load_hub *hub = hub_user;
	struct load *load = hub->load;
	uint32_t group = 0;
	uint64_t serial;
	int status;

	(void)expected;
	clock_note(hub);
	if (load->trust != NULL)
		return trust_judge(load->trust, chain, 0, verdict->identity, verdict->refusal);
	if (chain_check(load, chain) < 0) {
		audit_violation(load->audit, 0, "a chain that nobody made, %u long", chain->count);
		return -EACCES;
	}
	status = load->certs != NULL ? group_of(load, "any.g%u.p2%c", sni, &group)
				     : group_of(load, "g%u%c", verdict->group, &group);
	if (accepted && status < 0) {
		audit_violation(load->audit, 0, "on_verify of no group: \"%s\"", verdict->group);
		return -EINVAL;
	}
	if (load->certs != NULL) {
		snprintf(verdict->group, sizeof(verdict->group), "g%u", group);
		snprintf(verdict->identity, sizeof(verdict->identity), "stress");
	}
	if (!accepted)
		return 0;
	verdict->tag = group + 1;
	serial = audit_accept(load->audit, id, verdict->tag);
	verdict->user = (void *)(uintptr_t)serial;
	fault_ring_group(id, verdict->group);
	return serial != 0 ? 0 : -ENOMEM;
}

/* The accepted end joins its dialled one's seat, unless that one has ended meanwhile. */
static enum ph_refuse load_on_connect(void *hub_user, uint64_t id, uint64_t tag, void *user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	struct load_hub *hub = hub_user;
	struct load *load = hub->load;
	uint64_t serial = serial_of(user);
	struct seat *seat = seat_find(load, info->node_id);

	(void)tag;
	audit_on_connect(load->audit, serial, id, info->node_id);
	answer->node_id = serial;
	if (seat == NULL)
		return PH_ACCEPT;
	pthread_mutex_lock(&seat->lock);
	if (seat->serials[LOAD_DIALLER] == info->node_id && seat->serials[LOAD_ACCEPTOR] == 0) {
		seat->serials[LOAD_ACCEPTOR] = serial;
		seat->ends++;
		atomic_store(&load->seat_of[serial & load->serial_mask],
			(uint32_t)(seat - load->seats) + 1);
	}
	pthread_mutex_unlock(&seat->lock);
	return PH_ACCEPT;
}

static void load_on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct load_hub *hub = hub_user;
	struct load *load = hub->load;
	uint64_t serial = serial_of(user), dial_ns = 0;
	struct seat *seat = seat_find(load, serial);

	clock_note(hub);
	audit_on_open(load->audit, serial, id, info->tag, info->accepted != 0);
	if (seat == NULL)
		return;
	pthread_mutex_lock(&seat->lock);
	if (seat->serials[hub->end] == serial) {
		seat->opened[hub->end] = true;
		dial_ns = seat->dial_ns;
	}
	pthread_mutex_unlock(&seat->lock);
	if (dial_ns == 0)
		return;
	atomic_fetch_add(&load->open, 1);
	if (hub->end == LOAD_DIALLER) {
		histogram_record(&load->open_latency, now_ns() - dial_ns);
		atomic_fetch_add(&load->opened, 1);
	}
}

static int load_on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct load_hub *hub = hub_user;
	struct load *load = hub->load;
	uint64_t serial = serial_of(user), total;
	struct seat *seat = seat_find(load, serial);

	audit_on_data(load->audit, serial, id, type, data, bytes);
	if (seat == NULL)
		return 0;
	atomic_fetch_add(&seat->received[hub->end], 1);
	total = atomic_fetch_add(&seat->received_bytes[hub->end], bytes) + bytes;
	/* A slow reader has read enough for now; slow.c lets it go on. */
	if (hub->end == LOAD_DIALLER && total >= atomic_load(&seat->read_limit))
		(void)load_pause(load, (uint32_t)(seat - load->seats), LOAD_DIALLER, true);
	return 0;
}

static void load_on_writable(void *hub_user, uint64_t id, void *user)
{
	struct load_hub *hub = hub_user;

	audit_on_writable(hub->load->audit, serial_of(user), id);
}

static uint32_t reason_index(uint32_t reason)
{
	static const uint32_t reasons[] = {
#define REASON_VALUE(name, value, text) value,
		PH_REASONS(REASON_VALUE)
#undef REASON_VALUE
	};

	static_assert(sizeof(reasons) / sizeof(reasons[0]) <= LOAD_REASONS_MAX, "room for all");
	for (uint32_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i] == reason)
			return i;
	return 0;
}

uint64_t load_ended_by(struct load *load, enum load_end end, uint32_t reason)
{
	return atomic_load(&load->reasons[end][reason_index(reason)]);
}

/* One end has had its last event: `seat` is a copy from before. */
static void end_figures(struct load *load, enum load_end end, const struct seat *seat,
	const struct ph_receipt *receipt, uint64_t now)
{
	struct load_latency *latency = &load->latency[seat->how];
	uint64_t from = seat->close_ns;

	if (receipt->was_open)
		atomic_fetch_add(&load->reasons[end][reason_index(receipt->reason)], 1);
	if (from == 0 || !receipt->was_open)
		return;
	if (receipt->side == PH_SIDE_LOCAL) {
		histogram_record(&latency->final_here, now - from);
		if (receipt->time_goodbye_ns > from)
			histogram_record(&latency->goodbye, receipt->time_goodbye_ns - from);
	} else if (receipt->side == PH_SIDE_REMOTE) {
		histogram_record(&latency->final_there, now - from);
		if (receipt->time_close_ns > from)
			histogram_record(&latency->seen, receipt->time_close_ns - from);
	}
}

/* Ends that no call of ours and no fault explains. On a machine that is too busy a time-out may, or the
 * other end's: load_end judges when it knows. */
static void unasked_note(struct load *load, uint64_t serial, const struct seat *seat,
	const struct ph_receipt *receipt)
{
	if (seat->was_asked || atomic_load(&load->is_ending))
		return;
	if (receipt->was_open)
		atomic_fetch_add(&load->unasked, 1);
	else if (receipt->accepted || load->options.slots != 0)
		return; /* the dialled end tells; and few slots refuse many */
	if (seat->is_spoiled || load->options.is_remote)
		return;
	atomic_store(&load->suspect_reason, receipt->reason);
	atomic_store(&load->suspect_serial, serial);
	atomic_fetch_add(&load->suspects, 1);
}

static void load_on_closed(
	void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct load_hub *hub = hub_user;
	struct load *load = hub->load;
	enum load_end end = hub->end;
	uint64_t serial = serial_of(user), now = now_ns();
	struct seat *seat = seat_find(load, serial), before = {.ends = 0};

	audit_on_closed(load->audit, serial, id, receipt);
	if (seat == NULL)
		return;
	pthread_mutex_lock(&seat->lock);
	if (seat->serials[end] == serial) {
		before.ends = seat->ends;
		before.close_ns = seat->close_ns;
		before.how = seat->how;
		before.was_asked = seat->was_asked;
		before.is_spoiled = seat->is_spoiled;
		before.opened[end] = seat->opened[end];
		seat->serials[end] = 0;
		seat->ends--;
	}
	pthread_mutex_unlock(&seat->lock);
	if (before.ends == 0)
		return;
	end_figures(load, end, &before, receipt, now);
	unasked_note(load, serial, &before, receipt);
	if (before.opened[end])
		atomic_fetch_sub(&load->open, 1);
	else if (end == LOAD_DIALLER)
		atomic_fetch_add(&load->failed, 1);
	if (before.ends > 1)
		return;
	if (before.close_ns != 0)
		atomic_fetch_sub(&load->closing, 1);
	atomic_store(&load->emptied_ns, now);
	atomic_fetch_sub(&load->live, 1);
}

const struct ph_callbacks load_callbacks = {
	.on_hello = load_on_hello,
	.on_verify = load_on_verify,
	.on_connect = load_on_connect,
	.on_open = load_on_open,
	.on_data = load_on_data,
	.on_writable = load_on_writable,
	.on_closed = load_on_closed,
};

/* ---- calls on seats --------------------------------------------------------------------- */

bool load_seat_is_empty(struct seat *seat)
{
	bool is_empty;

	pthread_mutex_lock(&seat->lock);
	is_empty = seat->ends == 0;
	pthread_mutex_unlock(&seat->lock);
	return is_empty;
}

bool load_seat_is_open(struct load *load, struct seat *seat)
{
	bool is_open;

	pthread_mutex_lock(&seat->lock);
	is_open = seat->serials[LOAD_DIALLER] != 0 && seat->opened[LOAD_DIALLER] &&
		(load->options.is_remote ||
			(seat->serials[LOAD_ACCEPTOR] != 0 && seat->opened[LOAD_ACCEPTOR]));
	pthread_mutex_unlock(&seat->lock);
	return is_open;
}

static uint32_t faults_of(struct load *load, uint64_t number, const char *group)
{
	const struct faults *faults = &load->options.faults;
	uint32_t mask = 0;

	for (uint32_t i = 0; i < faults->count; i++)
		if (!fault_is_link(&faults->items[i]) ||
			fault_hits(faults, i, load->options.seed, number, group))
			mask |= 1u << i;
	return mask;
}

/* A new life of a seat: everything of the last one is forgotten. */
static void seat_begin(struct load *load, struct seat *seat, uint64_t serial, bool is_spoiled)
{
	pthread_mutex_lock(&seat->lock);
	seat->serials[LOAD_DIALLER] = serial;
	seat->serials[LOAD_ACCEPTOR] = 0;
	seat->ends = 1;
	seat->opened[LOAD_DIALLER] = seat->opened[LOAD_ACCEPTOR] = false;
	seat->was_asked = false;
	seat->is_spoiled = is_spoiled;
	seat->close_ns = 0;
	seat->dial_ns = now_ns();
	pthread_mutex_unlock(&seat->lock);
	for (int end = 0; end < LOAD_ENDS; end++) {
		atomic_store(&seat->received[end], 0);
		atomic_store(&seat->received_bytes[end], 0);
		atomic_store(&seat->sent[end], 0);
		atomic_store(&seat->blocked_ns[end], 0);
	}
	atomic_store(&seat->read_limit, UINT64_MAX);
	atomic_store(
		&load->seat_of[serial & load->serial_mask], (uint32_t)(seat - load->seats) + 1);
	atomic_fetch_add(&load->live, 1);
}

static void seat_undo(struct load *load, struct seat *seat)
{
	pthread_mutex_lock(&seat->lock);
	seat->serials[LOAD_DIALLER] = 0;
	seat->ends = 0;
	pthread_mutex_unlock(&seat->lock);
	atomic_fetch_sub(&load->live, 1);
}

static struct ph_credentials *credentials_of(const struct load *load)
{
	if (load->trust != NULL)
		return trust_credentials(load->trust);
	return load->certs != NULL ? certs_credentials(load->certs) : NULL;
}

bool load_open(struct load *load, uint32_t number)
{
	struct seat *seat = &load->seats[number];
	uint32_t group = number % (uint32_t)load->options.groups;
	uint64_t serial, *id, dialled = atomic_fetch_add(&load->number_last, 1);
	struct ph_open_options options = {
		.address = load->addresses[dialled % LOAD_LISTENERS],
		.kind = PH_KIND_DIRECT,
		.framing = PH_FRAMING_MESSAGE,
		.tls = load->options.tls == 0 ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.credentials = credentials_of(load),
		.source = load->trust != NULL ? trust_identity(load->trust) : "stress",
		.tag = group + 1,
	};
	const ph_address *detour;
	char name[16], sni[32];
	uint32_t mask;
	int status;

	snprintf(name, sizeof(name), "g%u", group);
	snprintf(sni, sizeof(sni), "any.g%u.p2p", group);
	options.group = name;
	options.sni = sni;
	mask = faults_of(load, dialled, name);
	detour = load->link != NULL ? fault_link_address(load->link, mask) : NULL;
	if (detour != NULL)
		options.address = *detour;
	serial = audit_dial(load->audit, options.tag, &id);
	if (serial == 0)
		return false;
	options.node_id = serial;
	options.user = (void *)(uintptr_t)serial;
	seat->number = dialled;
	seat->group = group;
	seat_begin(load, seat, serial, mask != 0);
	status = ph_open(load->hubs[LOAD_DIALLER].hub, &options, id);
	if (status == 0) {
		fault_ring_group(*id, name);
		audit_dial_done(load->audit, serial);
		return true;
	}
	seat_undo(load, seat);
	audit_dial_failed(load->audit, serial);
	if (status != -EMFILE && status != -ENOMEM)
		audit_violation(load->audit, 0, "ph_open answered %d", status);
	return false;
}

/* The serial of an end, 0 when the seat has none. */
static uint64_t serial_get(struct seat *seat, enum load_end end)
{
	uint64_t serial;

	pthread_mutex_lock(&seat->lock);
	serial = seat->serials[end];
	pthread_mutex_unlock(&seat->lock);
	return serial;
}

/* Note that a close is about to be called; false: there is no such end. */
static bool seat_close_begin(
	struct load *load, struct seat *seat, enum load_end end, enum ph_how how, uint64_t *serial)
{
	bool is_first;

	pthread_mutex_lock(&seat->lock);
	*serial = seat->serials[end];
	is_first = *serial != 0 && seat->close_ns == 0;
	if (is_first) {
		seat->was_asked = true;
		seat->how = how;
		seat->close_ns = now_ns();
		atomic_fetch_add(&load->closing, 1);
	}
	pthread_mutex_unlock(&seat->lock);
	return *serial != 0;
}

int load_close_reason(struct load *load, uint32_t number, enum load_end end, enum ph_how how,
	uint32_t reason, const char *text)
{
	struct seat *seat = &load->seats[number];
	uint32_t told = how == PH_ABORT ? PH_REASON_LOCAL_ABORT : PH_REASON_LOCAL_CLOSE;
	struct audit_ref ref;
	uint64_t serial, begin_ns;
	int status;

	if (!seat_close_begin(load, seat, end, how, &serial) ||
		!audit_enter(load->audit, serial, &ref))
		return -ENOENT;
	begin_ns = now_ns();
	status = ph_close(ref.id, ref.tag, how, reason, text);
	if (status == 0)
		histogram_record(&load->latency[how].call, now_ns() - begin_ns);
	audit_close_result(load->audit, &ref, how, reason != 0 ? reason : told, status, begin_ns);
	audit_leave(load->audit, &ref);
	return status;
}

int load_close(struct load *load, uint32_t seat, enum load_end end, enum ph_how how)
{
	return load_close_reason(load, seat, end, how, 0, NULL);
}

int load_send(struct load *load, uint32_t number, enum load_end end, uint32_t lane)
{
	static _Thread_local uint8_t payload[LOAD_PAYLOAD_MAX];
	struct seat *seat = &load->seats[number];
	uint64_t serial = serial_get(seat, end), begin_ns, never = 0;
	struct message_head head = {
		.sender = serial, .lane = lane, .bytes = (uint32_t)load->options.message_bytes};
	struct ph_part part = {.data = payload, .bytes = head.bytes};
	struct audit_ref ref;
	uint8_t type[16];
	int status;

	if (serial == 0 || !audit_enter(load->audit, serial, &ref))
		return -ENOENT;
	head.sequence = audit_send_begin(load->audit, &ref, lane);
	message_write(&head, payload, type);
	begin_ns = now_ns();
	status = ph_send(ref.id, ref.tag, type, &part, 1);
	audit_send_result(load->audit, &ref, lane, head.bytes, status, begin_ns);
	audit_leave(load->audit, &ref);
	if (status == 0) {
		atomic_fetch_add(&seat->sent[end], 1);
		atomic_store(&seat->blocked_ns[end], 0);
	} else if (status == -EAGAIN) {
		atomic_compare_exchange_strong(&seat->blocked_ns[end], &never, begin_ns);
	}
	return status;
}

int load_pause(struct load *load, uint32_t number, enum load_end end, bool is_paused)
{
	uint64_t serial = serial_get(&load->seats[number], end);
	struct audit_ref ref;
	int status;

	if (serial == 0 || !audit_enter(load->audit, serial, &ref))
		return -ENOENT;
	status = is_paused ? ph_pause(ref.id, ref.tag) : ph_resume(ref.id, ref.tag);
	audit_call_result(load->audit, &ref, is_paused ? "ph_pause" : "ph_resume", status);
	audit_leave(load->audit, &ref);
	return status;
}
