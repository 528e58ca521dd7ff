/* The caller's side of a close or a send: its cache lines, wake-ups, allocations; see subject.h. */
#include "bench/subject.h"

#include "engine/home.h"

#ifdef PEERHUB_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

void subject_id_warm(uint64_t id)
{
	struct home *home = home_of(id);

	if (home == NULL)
		return;
	/* Adding nothing takes the line for writing, as the call itself will. */
	atomic_fetch_add(&home->table.slots[slot_id_slot(id)].word, 0);
	atomic_fetch_add(&home->mailbox.wakes, 0);
	__builtin_prefetch(&home->mailbox.mail, 1);
}

uint64_t subject_id_wakes(uint64_t id)
{
	struct home *home = home_of(id);

	return home != NULL ? atomic_load(&home->mailbox.wakes) : 0;
}

uint64_t subject_thread_allocated(void)
{
#ifdef PEERHUB_JEMALLOC
	uint64_t bytes = 0;
	size_t size = sizeof(bytes);

	return mallctl("thread.allocated", &bytes, &size, NULL, 0) == 0 ? bytes : 0;
#else
	return 0;
#endif
}
