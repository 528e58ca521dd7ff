/* Connection ids to small numbers; see id_map.h. */
#include "id_map.h"

#include "random.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct id_place {
	uint64_t id; /* 0: free; no connection has the id 0 */
	uint32_t value;
};

struct id_map {
	pthread_mutex_t lock;
	uint32_t count, count_max;
	uint32_t capacity; /* power of two, at least twice count_max: short probes */
	struct id_place places[];
};

int id_map_create(uint32_t count_max, struct id_map **map)
{
	uint32_t capacity = 16;
	struct id_map *made;

	while (capacity < (uint64_t)count_max * 2)
		capacity *= 2;
	made = calloc(1, sizeof(*made) + capacity * sizeof(made->places[0]));
	if (made == NULL)
		return -ENOMEM;
	pthread_mutex_init(&made->lock, NULL);
	made->count_max = count_max;
	made->capacity = capacity;
	*map = made;
	return 0;
}

void id_map_destroy(struct id_map *map)
{
	if (map == NULL)
		return;
	pthread_mutex_destroy(&map->lock);
	free(map);
}

/* The place of the id, or the free one where it would stand. */
static struct id_place *place_of(struct id_map *map, uint64_t id)
{
	uint32_t at = (uint32_t)random_mix(id) & (map->capacity - 1);

	while (map->places[at].id != 0 && map->places[at].id != id)
		at = (at + 1) & (map->capacity - 1);
	return &map->places[at];
}

int id_map_put(struct id_map *map, uint64_t id, uint32_t value)
{
	struct id_place *place;
	int status = 0;

	pthread_mutex_lock(&map->lock);
	place = place_of(map, id);
	if (place->id == id) {
		status = -EEXIST;
	} else if (map->count == map->count_max) {
		status = -ENOSPC;
	} else {
		place->id = id;
		place->value = value;
		map->count++;
	}
	pthread_mutex_unlock(&map->lock);
	return status;
}

int id_map_get(struct id_map *map, uint64_t id, uint32_t *value)
{
	struct id_place *place;
	int status = -ENOENT;

	pthread_mutex_lock(&map->lock);
	place = place_of(map, id);
	if (id != 0 && place->id == id) {
		*value = place->value;
		status = 0;
	}
	pthread_mutex_unlock(&map->lock);
	return status;
}
