/*
 * target.c: see target.h.
 */
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop.h"
#include "say.h"

size_t things_count(const struct things *things)
{
	return things->files.count + (things->lines ? 1 : 0);
}

void target_fini(struct target *target)
{
	sender_destroy(target->sender);
	free(target->name);
	target->sender = NULL;
	target->name = NULL;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL && slash[1] != 0 ? slash + 1 : path;
}

/* Open a regular file; anything else could block us or never end. False: said. */
static bool open_file(const char *path, struct sender_options *options)
{
	struct stat info;

	options->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (options->fd < 0 || fstat(options->fd, &info) < 0) {
		say_error("cannot open \"%s\": %s", path, strerror(errno));
	} else if (!S_ISREG(info.st_mode)) {
		say_error("\"%s\" is not a file; --send - sends standard input", path);
	} else {
		options->name = base_name(path);
		options->size = (uint64_t)info.st_size;
		options->may_block = false;
		return true;
	}
	if (options->fd >= 0)
		close(options->fd);
	return false;
}

/* False: said. */
static bool open_thing(const struct things *things, size_t index, struct sender_options *options)
{
	options->content = index < things->files.count ? TRANSFER_FILE : TRANSFER_LINES;
	options->name = options->content == TRANSFER_FILE ? "stdin" : "lines";
	options->size = TRANSFER_SIZE_UNKNOWN;
	options->fd = STDIN_FILENO;
	options->may_block = true;
	if (options->content == TRANSFER_LINES || strcmp(things->files.items[index], "-") == 0)
		return true;
	return open_file(things->files.items[index], options);
}

/* Begin with the next thing. */
static void target_begin(
	struct target *target, struct node *node, const struct things *things, uint64_t now_ms)
{
	struct sender_options options = {
		.route = {.node = node,
			.connection = target->link->connection,
			.name = target->name},
		.peer = target->name != NULL ? target->name : target->link->identity,
		.wait_ms = things->wait_ms,
	};

	/* A hub does not relay to itself. */
	if (target->name != NULL && strcmp(target->name, target->link->identity) == 0)
		options.route.name = NULL;
	if (open_thing(things, target->next++, &options))
		target->sender = sender_create(&options, now_ms);
	if (target->sender == NULL)
		target->failed = true;
}

bool target_is_over(const struct target *target, const struct things *things)
{
	return target->sender == NULL && target->next >= things_count(things);
}

/* The link is gone for good: whatever would still go over it fails. */
static void target_give_up(struct target *target, const struct things *things)
{
	size_t left = things_count(things) - target->next;

	if (left == 0)
		return;
	say_error("%zu of %zu were not sent to %s", left, things_count(things), target->shown);
	target->failed = true;
	target->next += left;
}

uint64_t target_step(
	struct target *target, struct node *node, const struct things *things, uint64_t now_ms)
{
	uint64_t wake = LOOP_NEVER;

	if (target->sender == NULL && target->link->state == LINK_DEAD)
		target_give_up(target, things);
	while (target->sender == NULL && target->link->state == LINK_OPEN &&
		!target_is_over(target, things))
		target_begin(target, node, things, now_ms);
	if (target->sender == NULL)
		return LOOP_NEVER;
	wake = sender_step(target->sender, now_ms);
	if (sender_state(target->sender) < SENDER_DONE)
		return wake;
	if (sender_state(target->sender) == SENDER_FAILED)
		target->failed = true;
	sender_destroy(target->sender);
	target->sender = NULL;
	return target_is_over(target, things) ? LOOP_NEVER : now_ms;
}
