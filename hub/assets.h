/*
 * assets.h: the files of the dashboard's page (hub/page/), as they are; cmake/embed.cmake puts them into the program.
 */
#ifndef PEERHUB_HUB_ASSETS_H
#define PEERHUB_HUB_ASSETS_H

#include <stddef.h>

#define ASSET_COUNT 4u

struct asset {
	const char *name, *type; /* "dashboard.js"; of HTTP */
	const char *bytes;
	size_t byte_count;
};
extern const struct asset assets[ASSET_COUNT];

#endif
