/*
 * Messages from outside. Every parser gets the bytes, whatever their type byte says, after the size
 * in them was put right. What a parser accepts our writer must accept, and the parser must read the
 * same from what was written.
 */
#include "engine/wire.h"
#include "tests/fuzz/input.h"

#include <errno.h>
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

static void try_resume(const uint8_t *message, size_t bytes)
{
	uint8_t copy[WIRE_RESUME_BYTES];
	struct wire_resume resume;

	if (wire_resume_parse(message, bytes, &resume) == 0) {
		expect(wire_resume_write(copy, sizeof(copy), &resume) == (ssize_t)bytes);
		expect(memcmp(copy, message, bytes) == 0);
	}
	/* What the parser refused in the fields the writer refuses, too. */
	if (resume.lifetime_s > 0)
		(void)wire_resume_write(copy, bytes % sizeof(copy), &resume);
	resume.lifetime_s = 0;
	expect(wire_resume_write(copy, sizeof(copy), &resume) == -EINVAL);
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

/* ---- what our own side asks to be written ----------------------------------------------------- */

static char *name_or_null(struct input *input)
{
	uint32_t bytes = input_number(input, 2);

	return bytes > 2000 ? NULL : input_text(input, bytes);
}

/* Any fields: what the writer takes fits its room, and the parser takes it too. */
static void write_any(struct input *input)
{
	static uint8_t out[2 * WIRE_CONTROL_BYTES_MAX];
	uint8_t what = input_byte(input);
	size_t capacity = what & 128 ? input_number(input, 2) % sizeof(out) : sizeof(out);
	char *one = name_or_null(input), *two = name_or_null(input), *three = name_or_null(input);
	ph_address addresses[PH_ADDRESSES_MAX] = {{.sin6_family = AF_INET6}};
	uint32_t count = input_byte(input) % (PH_ADDRESSES_MAX + 2);
	uint8_t number = input_byte(input);
	struct wire_auth_info auth_info = {number, one, two, three}, auth_info_again;
	struct wire_connect connect = {.flags = number,
				    .node_id = 7,
				    .address_count = count,
				    .friendly_name = one},
			    connect_again;
	struct wire_welcome welcome = {.node_id = 7,
				    .address_count = count,
				    .peer_id = one,
				    .friendly_name = two},
			    welcome_again;
	struct wire_notice notice = {.code = number,
				   .text = one != NULL ? one : "",
				   .text_bytes = one != NULL ? (uint32_t)strlen(one) : 0},
			   notice_again;
	ssize_t bytes = -EINVAL;
	int status = 0;

	for (uint32_t index = 0; index < PH_ADDRESSES_MAX; index++)
		addresses[index].sin6_family = (what & 64) && index == 1 ? AF_INET : AF_INET6;
	memcpy(connect.addresses, addresses, sizeof(addresses));
	memcpy(welcome.addresses, addresses, sizeof(addresses));
	switch (what % 6) {
	case 0:
		bytes = wire_auth_info_write(out, capacity, &auth_info);
		if (bytes > 0)
			status = wire_auth_info_parse(out, (size_t)bytes, &auth_info_again);
		break;
	case 1:
		bytes = wire_connect_write(out, capacity, &connect);
		if (bytes > 0)
			status = wire_connect_parse(out, (size_t)bytes, &connect_again);
		break;
	case 2:
		bytes = wire_welcome_write(out, capacity, &welcome);
		if (bytes > 0)
			status = wire_welcome_parse(out, (size_t)bytes, &welcome_again);
		break;
	case 3:
		bytes = wire_notice_write(out, capacity, &notice);
		if (bytes > 0)
			status = wire_notice_parse(out, (size_t)bytes, &notice_again);
		break;
	case 4:
		bytes = wire_refuse_write(out, capacity, number);
		break;
	default:
		bytes = wire_disconnect_write(out, capacity, number);
		break;
	}
	expect(bytes > 0 ? (size_t)bytes <= capacity : bytes == -EINVAL || bytes == -ENOSPC);
	expect(status == 0);
	free(one);
	free(two);
	free(three);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
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
	try_resume(message, bytes);
	try_pt2pt(message, bytes);
	free(message);
	(void)input_number(&input, WIRE_HEADER_BYTES);
	write_any(&input);
	return 0;
}
