/*
 * Connection ids to small numbers. Ids are never removed: a run knows how many it will see, so the
 * table is made once and cannot fill up. Any thread.
 */
#ifndef PEERHUB_STRESS_ID_MAP_H
#define PEERHUB_STRESS_ID_MAP_H

#include <stdint.h>

struct id_map;

int id_map_create(uint32_t count_max, struct id_map **map); /* 0 or -ENOMEM */
void id_map_destroy(struct id_map *map); /* NULL allowed */
int id_map_put(struct id_map *map, uint64_t id, uint32_t value); /* 0, -EEXIST, -ENOSPC */
int id_map_get(struct id_map *map, uint64_t id, uint32_t *value); /* 0 or -ENOENT */

#endif
