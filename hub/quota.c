/* quota.c: see quota.h. */
#include "quota.h"

#include <string.h>
#include <time.h>

#include "log.h"

/* In a file 0 is "no limit"; to the engine that is counted all the same, so that a reload can set one. */
static uint64_t or_none(uint64_t value)
{
	return value != 0 ? value : PH_LIMIT_NONE;
}

static void values_fill(const struct config *config, uint64_t limits[PH_LIMIT_COUNT])
{
	memset(limits, 0, PH_LIMIT_COUNT * sizeof(*limits));
	limits[PH_LIMIT_CONNECTIONS] = or_none(config->connections);
	limits[PH_LIMIT_GROUP] = or_none(config->group_connections);
	limits[PH_LIMIT_IDENTITY] = or_none(config->identity_connections);
	limits[PH_LIMIT_SUBNET] = or_none(config->subnet_connections);
	limits[PH_LIMIT_HANDSHAKES] = or_none(config->handshakes);
	limits[PH_LIMIT_HANDSHAKE_SHARE] = config->handshake_share;
	limits[PH_LIMIT_ACCEPT_RATE] = or_none(config->accept_rate);
	limits[PH_LIMIT_MESSAGE_BYTES] = config->message_bytes;
	limits[PH_LIMIT_MESSAGE_RATE] = or_none(config->message_rate);
	limits[PH_LIMIT_SEND_QUEUE] = config->send_queue_bytes;
	limits[PH_LIMIT_SEND_TOTAL] = or_none(config->send_total_bytes);
	limits[PH_LIMIT_MEMORY] = or_none(config->memory_bytes);
	limits[PH_LIMIT_LOOP_LAG] = or_none(config->loop_lag_ms);
}

void quota_choose(const struct config *config, struct ph_options *options)
{
	static const enum ph_slow slow[] = {PH_SLOW_CLOSE, PH_SLOW_DROP, PH_SLOW_BLOCK};

	values_fill(config, options->limits);
	options->retry_after_ms = (uint32_t)config->retry_after_ms;
	options->duplicates = (uint32_t)config->duplicates;
	options->slow = slow[config->slow_consumer];
	options->slow_ms = (uint32_t)config->slow_consumer_ms;
}

void quota_reload(const struct config *config, struct ph_hub *hub)
{
	uint64_t limits[PH_LIMIT_COUNT];

	values_fill(config, limits);
	/* All that a file can say has been checked when it was read. */
	if (ph_limits_set(hub, limits) < 0)
		LOG(CONFIG_LOG_ERROR, "limits_refused",
			LOG_T("text", "the limits stay as they were"));
}

const char *quota_key(enum ph_limit limit)
{
	static const char *const keys[PH_LIMIT_COUNT] = {
		[PH_LIMIT_CONNECTIONS] = "limits.connections",
		[PH_LIMIT_GROUP] = "limits.group-connections",
		[PH_LIMIT_IDENTITY] = "limits.identity-connections",
		[PH_LIMIT_SUBNET] = "limits.subnet-connections",
		[PH_LIMIT_HANDSHAKES] = "limits.handshakes",
		[PH_LIMIT_HANDSHAKE_SHARE] = "limits.handshake-share",
		[PH_LIMIT_ACCEPT_RATE] = "limits.accept-rate",
		[PH_LIMIT_MESSAGE_BYTES] = "limits.message-bytes",
		[PH_LIMIT_MESSAGE_RATE] = "limits.message-rate",
		[PH_LIMIT_SEND_QUEUE] = "limits.send-queue-bytes",
		[PH_LIMIT_SEND_TOTAL] = "limits.send-total-bytes",
		[PH_LIMIT_MEMORY] = "limits.memory-bytes",
		[PH_LIMIT_LOOP_LAG] = "limits.loop-lag",
		[PH_LIMIT_DUPLICATE] = "limits.duplicates",
	};

	return keys[limit];
}

/* How long ago; null: never. */
static json_t *ago_json(uint64_t then_ns)
{
	struct timespec now;
	uint64_t now_ns;

	if (then_ns == 0 || clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		return json_null();
	now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	return json_integer(now_ns > then_ns ? (json_int_t)((now_ns - then_ns) / 1000000) : 0);
}

static json_t *state_json(enum ph_limit limit, const struct ph_limit_state *state)
{
	static const struct in6_addr nobody;
	char address[PH_ADDRESS_TEXT_BYTES] = "";

	if (memcmp(&state->last_address.sin6_addr, &nobody, sizeof(nobody)) != 0)
		ph_address_text(&state->last_address, address);
	return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:o, s:s, s:s}", "limit",
		ph_limit_name(limit), "key", quota_key(limit), "value",
		state->value == 0 || state->value == PH_LIMIT_NONE
			? json_null()
			: json_integer((json_int_t)state->value),
		"use", (json_int_t)state->use, "keys", (json_int_t)state->keys, "refusals",
		(json_int_t)state->refusals, "last_refusal_ago_ms", ago_json(state->last_ns),
		"last_refused", address, "reason", ph_reason_name(ph_limit_reason(limit)));
}

json_t *quota_json(struct ph_hub *hub)
{
	struct ph_limit_state states[PH_LIMIT_COUNT];
	json_t *list = json_array();

	ph_limits_read(hub, states);
	for (int i = 0; i < PH_LIMIT_COUNT && list != NULL; i++) {
		if (json_array_append_new(list, state_json((enum ph_limit)i, &states[i])) == 0)
			continue;
		json_decref(list);
		list = NULL;
	}
	return list;
}
