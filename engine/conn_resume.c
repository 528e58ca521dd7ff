/*
 * A connection and resumption secrets (resume.h): offered where we dial, found where we accept, judged by
 * on_verify as any chain is, issued behind WELCOME, kept when RESUME comes. Only with PH_HUB_RESUME, and only
 * for the message protocol over TLS: elsewhere hub->resume is NULL or nothing of this is reached.
 *
 * In a secret's use TLS has proven that the peer holds it; who that is, the entry says, which was taken out of
 * its table before and is in nobody else's hands. on_verify runs behind the handshake then, once, with the chain of
 * the time when it was verified; what it fills in has to name the same peer.
 */
#include "engine/conn.h"

#include "engine/check.h"
#include "engine/clock.h"
#include "engine/credentials.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/resume.h"
#include "engine/shard.h"
#include "engine/wire.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

static_assert(TLS_RESUME_BYTES == RESUME_ID_BYTES, "TLS offers an entry's id");
static_assert(TLS_RESUME_BYTES == RESUME_SECRET_BYTES, "and proves its secret");

static struct resume *resume_of(const struct conn *conn)
{
	if (conn->framing != PH_FRAMING_MESSAGE || !conn->secure)
		return NULL;
	return conn->shard->hub->resume;
}

/* ---- where we dial: offer ---------------------------------------------------------------- */

/* All that a dial is told: a secret is offered where nothing differs from the time when it was given. */
void conn_resume_name(const struct conn_setup *setup, uint8_t *name)
{
	const char *const texts[] = {setup->sni, setup->group, setup->source, setup->expected};
	uint8_t data[sizeof(struct in6_addr) + sizeof(in_port_t) + sizeof(uint32_t) +
		RESUME_DIGEST_BYTES + PH_SNI_BYTES_MAX + 1 + 3 * PH_NAME_BYTES_MAX];
	size_t at = 0;

	memcpy(data + at, &setup->address.sin6_addr, sizeof(setup->address.sin6_addr));
	at += sizeof(setup->address.sin6_addr);
	memcpy(data + at, &setup->address.sin6_port, sizeof(setup->address.sin6_port));
	at += sizeof(setup->address.sin6_port);
	memcpy(data + at, &setup->address.sin6_scope_id, sizeof(setup->address.sin6_scope_id));
	at += sizeof(setup->address.sin6_scope_id);
	memcpy(data + at, credentials_digest(setup->credentials), RESUME_DIGEST_BYTES);
	at += RESUME_DIGEST_BYTES;
	for (size_t index = 0; index < sizeof(texts) / sizeof(texts[0]); index++) {
		size_t bytes =
			strlen(texts[index]) + 1; /* with its end: no two lists run together */

		memcpy(data + at, texts[index], bytes);
		at += bytes;
	}
	assert(at <= sizeof(data));
	SHA256(data, at, name);
}

void conn_resume_offer(struct conn *conn)
{
	struct resume *resume = resume_of(conn);
	struct conn_setup *setup = conn->setup;
	uint8_t name[RESUME_ID_BYTES];

	if (resume == NULL)
		return;
	conn_resume_name(setup, name);
	setup->resume = resume_take(resume, RESUME_KEPT, name, conn->shard->now_ns, clock_real_s());
	if (setup->resume != NULL &&
		(hub_tag_has_ended(conn->shard->hub, setup->resume->tag) ||
			tls_resume(conn->tls, setup->resume->id, setup->resume->secret) < 0)) {
		resume_entry_destroy(setup->resume); /* the full handshake does it, too */
		setup->resume = NULL;
	}
}

/* ---- where we accept: find --------------------------------------------------------------- */

static bool is_for_us(const struct conn *conn, const struct resume_entry *entry)
{
	const struct conn_setup *setup = conn->setup;

	return strcmp(entry->own_group, setup->group) == 0 &&
		strcmp(entry->own_identity, setup->source) == 0 && setup->credentials != NULL &&
		memcmp(entry->own_digest, credentials_digest(setup->credentials),
			RESUME_DIGEST_BYTES) == 0 &&
		!hub_tag_has_ended(conn->shard->hub, entry->tag);
}

/* Of tls_events: after on_hello has answered. */
int conn_on_resume(void *context, const uint8_t *id, uint8_t *secret)
{
	struct conn *conn = context;
	struct resume *resume = resume_of(conn);
	struct resume_entry *entry;

	if (resume == NULL || conn->setup == NULL)
		return -ENOENT;
	entry = resume_take(resume, RESUME_ISSUED, id, conn->shard->now_ns, clock_real_s());
	if (entry != NULL && !is_for_us(conn, entry)) {
		resume_entry_destroy(entry);
		entry = NULL;
	}
	if (entry == NULL) {
		SHARD_COUNT(conn->shard, resumes_missed);
		return -ENOENT;
	}
	resume_entry_destroy(
		conn->setup->resume); /* another offer whose handshake went on without it */
	conn->setup->resume = entry;
	memcpy(secret, entry->secret, RESUME_SECRET_BYTES);
	return 0;
}

/* ---- judged ------------------------------------------------------------------------------ */

void conn_resume_remember(struct conn *conn, const struct ph_chain *chain)
{
	if (resume_of(conn) == NULL)
		return;
	resume_chain_put(conn->setup->chain);
	conn->setup->chain = resume_chain_create(chain); /* NULL: no secret for this one */
}

/* Before on_verify is asked: a revocation that comes later than this finds what we do about it. */
void conn_resume_begin(struct conn *conn)
{
	struct resume *resume = resume_of(conn);

	if (resume != NULL)
		conn->setup->resume_generation = resume_generation(resume);
}

static bool is_same_peer(const struct ph_verdict *verdict, const struct resume_entry *entry)
{
	return strcmp(verdict->group, entry->group) == 0 &&
		strcmp(verdict->identity, entry->identity) == 0 && verdict->role == entry->role;
}

int conn_resume_judge(struct conn *conn)
{
	struct conn_setup *setup = conn->setup;
	struct ph_verdict *verdict = &setup->verdict;
	struct resume_entry *entry = setup->resume;
	struct ph_chain chain;
	int status;

	if (!tls_is_resumed(conn->tls)) {
		resume_entry_destroy(entry); /* offered and not taken: it is used up all the same */
		setup->resume = NULL;
		return 0;
	}
	assert(entry != NULL);
	strcpy(verdict->group, entry->group);
	strcpy(verdict->identity, entry->identity);
	verdict->role = entry->role;
	resume_chain_show(entry->chain, &chain);
	status = conn_verify(conn, &chain);
	if (status == 0 && !is_same_peer(verdict, entry)) {
		setup->verified = false;
		SHARD_COUNT(conn->shard, verify_refused);
		strcpy(verdict->refusal, "the peer is another one than when its secret was given");
		status = -EACCES;
	}
	if (status < 0)
		return status;
	setup->chain = resume_chain_get(entry->chain);
	shard_count(conn->shard,
		conn->accepted ? COUNTER_resumes_accepted : COUNTER_resumes_dialled, 1);
	return 0;
}

/* ---- open: issue, or wait for one -------------------------------------------------------- */

static struct resume_entry *entry_for(struct conn *conn)
{
	const struct conn_setup *setup = conn->setup;
	struct resume_facts facts = {
		.own_group = setup->group,
		.own_identity = setup->source,
		.group = setup->verdict.group,
		.identity = setup->verdict.identity,
		.role = setup->verdict.role,
		.tag = atomic_load_explicit(&conn_slot(conn)->tag, memory_order_relaxed),
	};

	memcpy(facts.own_digest, credentials_digest(setup->credentials), RESUME_DIGEST_BYTES);
	return resume_entry_create(&facts, setup->chain, setup->resume_generation);
}

static uint64_t expiry_ns(const struct conn *conn, uint32_t lifetime_s)
{
	return conn->shard->now_ns + (uint64_t)lifetime_s * 1000000000u;
}

/* Without memory, or randomness, the peer gets none: it will come by the full handshake. */
static void issue(struct conn *conn, struct resume *resume, struct resume_entry *entry)
{
	struct wire_resume wire = {
		.lifetime_s = resume_lifetime_s(entry->chain, clock_real_s()),
	};
	uint8_t message[WIRE_RESUME_BYTES];

	if (wire.lifetime_s == 0 || entropy_fill(entry->id, sizeof(entry->id)) < 0 ||
		entropy_fill(entry->secret, sizeof(entry->secret)) < 0) {
		resume_entry_destroy(entry);
		return;
	}
	memcpy(entry->name, entry->id, sizeof(entry->name));
	memcpy(wire.id, entry->id, sizeof(wire.id));
	memcpy(wire.secret, entry->secret, sizeof(wire.secret));
	entry->expires_ns = expiry_ns(conn, wire.lifetime_s);
	if (wire_resume_write(message, sizeof(message), &wire) != sizeof(message) ||
		conn_control(conn, message, sizeof(message)) < 0) {
		resume_entry_destroy(entry);
	} else {
		SHARD_COUNT(conn->shard, resumes_issued);
		resume_put(resume, RESUME_ISSUED, entry);
	}
	OPENSSL_cleanse(&wire, sizeof(wire));
	OPENSSL_cleanse(message, sizeof(message));
}

void conn_resume_open(struct conn *conn)
{
	struct resume *resume = resume_of(conn);
	struct resume_entry *entry;

	if (resume == NULL || conn->setup->chain == NULL || conn->setup->credentials == NULL)
		return;
	entry = entry_for(conn);
	if (entry == NULL)
		return;
	if (conn->accepted) {
		issue(conn, resume, entry);
		return;
	}
	conn_resume_name(conn->setup, entry->name);
	assert(conn->resume == NULL);
	conn->resume = entry;
}

void conn_resume_keep(struct conn *conn, struct wire_resume *wire)
{
	struct resume_entry *entry = conn->resume;
	uint32_t lifetime_s;

	if (entry == NULL || conn->state != CONN_OPEN) {
		/* We do not use them, or have one already: one for each connection. */
		SHARD_COUNT(conn->shard, notices_skipped);
	} else {
		conn->resume = NULL;
		lifetime_s = resume_lifetime_s(entry->chain, clock_real_s());
		if (wire->lifetime_s < lifetime_s)
			lifetime_s = wire->lifetime_s;
		memcpy(entry->id, wire->id, sizeof(entry->id));
		memcpy(entry->secret, wire->secret, sizeof(entry->secret));
		entry->expires_ns = expiry_ns(conn, lifetime_s);
		SHARD_COUNT(conn->shard, resumes_kept);
		resume_put(resume_of(conn), RESUME_KEPT, entry);
	}
	OPENSSL_cleanse(wire, sizeof(*wire));
}

void conn_resume_drop(struct conn *conn)
{
	resume_entry_destroy(conn->resume);
	conn->resume = NULL;
}
