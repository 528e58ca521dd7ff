/*
 * Messages from outside. Every parser gets the bytes, whatever their type byte says, after the size
 * in them was put right. What a parser accepts our writer must accept, and the parser must read the
 * same from what was written.
 */
#include "engine/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static bool is_same_text(const char *one, const char *other)
{
	if (one == NULL || other == NULL)
		return one == other;
	return strcmp(one, other) == 0;
}

static bool is_same_addresses(const ph_address *one, const ph_address *other, uint32_t count)
{
	return memcmp(one, other, count * sizeof(*one)) == 0;
}

static void try_auth_info(const uint8_t *message, size_t bytes)
{
	uint8_t copy[WIRE_CONTROL_BYTES_MAX];
	struct wire_auth_info first, second;
	ssize_t written;

	if (wire_auth_info_parse(message, bytes, &first) < 0)
		return;
	written = wire_auth_info_write(copy, sizeof(copy), &first);
	expect(written > 0);
	expect(wire_auth_info_parse(copy, (size_t)written, &second) == 0);
	expect(first.kind == second.kind && is_same_text(first.graph, second.graph));
	expect(is_same_text(first.source, second.source));
	expect(is_same_text(first.destination, second.destination));
}

static void try_connect(const uint8_t *message, size_t bytes)
{
	uint8_t copy[WIRE_CONTROL_BYTES_MAX];
	struct wire_connect first, second;
	ssize_t written;

	if (wire_connect_parse(message, bytes, &first) < 0)
		return;
	written = wire_connect_write(copy, sizeof(copy), &first);
	expect(written > 0);
	expect(wire_connect_parse(copy, (size_t)written, &second) == 0);
	expect(first.flags == second.flags && first.node_id == second.node_id);
	expect(first.address_count == second.address_count);
	expect(is_same_addresses(first.addresses, second.addresses, first.address_count));
	expect(is_same_text(first.friendly_name, second.friendly_name));
}

static void try_welcome(const uint8_t *message, size_t bytes)
{
	uint8_t copy[WIRE_CONTROL_BYTES_MAX];
	struct wire_welcome first, second;
	ssize_t written;

	if (wire_welcome_parse(message, bytes, &first) < 0)
		return;
	written = wire_welcome_write(copy, sizeof(copy), &first);
	expect(written > 0);
	expect(wire_welcome_parse(copy, (size_t)written, &second) == 0);
	expect(first.node_id == second.node_id && first.peer_time == second.peer_time);
	expect(first.address_count == second.address_count);
	expect(is_same_addresses(first.addresses, second.addresses, first.address_count));
	expect(is_same_text(first.peer_id, second.peer_id));
	expect(is_same_text(first.friendly_name, second.friendly_name));
}

static void try_ends(const uint8_t *message, size_t bytes)
{
	uint8_t copy[64];
	struct wire_refuse refuse;
	struct wire_disconnect_message disconnect;

	if (wire_refuse_parse(message, bytes, &refuse) == 0)
		expect(wire_refuse_write(copy, sizeof(copy), refuse.code) > 0);
	if (wire_disconnect_parse(message, bytes, &disconnect) == 0)
		expect(wire_disconnect_write(copy, sizeof(copy), disconnect.reason) > 0);
}

static void try_notice(const uint8_t *message, size_t bytes)
{
	uint8_t copy[256];
	struct wire_notice notice;

	if (wire_notice_parse(message, bytes, &notice) < 0)
		return;
	expect(wire_notice_write(copy, sizeof(copy), &notice) == (ssize_t)bytes);
	expect(memcmp(copy, message, bytes) == 0);
}

static void try_pt2pt(const uint8_t *message, size_t bytes)
{
	uint8_t copy[WIRE_PT2PT_BYTES];
	struct wire_pt2pt pt2pt;

	if (wire_pt2pt_parse(message, bytes, &pt2pt) < 0)
		return;
	wire_pt2pt_head_write(copy, pt2pt.type, pt2pt.bytes);
	expect(memcmp(copy, message, sizeof(copy)) == 0);
	expect(pt2pt.data + pt2pt.bytes == message + bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct wire_header header;
	uint8_t *message;

	if (bytes < WIRE_HEADER_BYTES || bytes > WIRE_SKIP_BYTES_MAX)
		return 0;
	if (wire_header_parse(data, PH_MESSAGE_BYTES_MAX, &header) == 0)
		expect(header.bytes >= WIRE_HEADER_BYTES && header.type != 0);
	message = malloc(bytes);
	if (message == NULL)
		return 0;
	memcpy(message, data, bytes);
	message[0] = 0;
	message[1] = (uint8_t)(bytes >> 16);
	message[2] = (uint8_t)(bytes >> 8);
	message[3] = (uint8_t)bytes;
	try_auth_info(message, bytes);
	try_connect(message, bytes);
	try_welcome(message, bytes);
	try_ends(message, bytes);
	try_notice(message, bytes);
	try_pt2pt(message, bytes);
	free(message);
	return 0;
}
