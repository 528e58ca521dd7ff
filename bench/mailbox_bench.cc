/* What does it cost to hand a link to another thread? */
#include "bench/subject.h"

#include <benchmark/benchmark.h>

namespace
{

constexpr uint32_t kBatch = 256;

/* Post and drain on one thread: the instructions, without the other core's cache. */
void mailbox_post_alone(benchmark::State &state)
{
	struct subject_mailbox *mailbox = subject_mailbox_create(kBatch);

	if (mailbox == nullptr) {
		state.SkipWithError("no memory");
		return;
	}
	while (state.KeepRunningBatch(kBatch)) {
		for (uint32_t i = 0; i < kBatch; i++)
			subject_mailbox_post(mailbox, i);
		if (subject_mailbox_drain(mailbox) != kBatch)
			state.SkipWithError("mail was lost");
	}
	subject_mailbox_destroy(mailbox);
}
BENCHMARK(mailbox_post_alone);

/* The owner (thread 0) drains while the others post: each link is posted again only when its batch
 * has been seen, as a connection's link is. */
struct subject_mailbox *shared_mailbox;
uint64_t shared_taken;

void mailbox_post_shared(benchmark::State &state)
{
	uint32_t posters = static_cast<uint32_t>(state.threads()) - 1;
	uint64_t posted = 0;

	if (state.thread_index() == 0) {
		shared_mailbox = subject_mailbox_create(kBatch * (posters + 1));
		__atomic_store_n(&shared_taken, 0, __ATOMIC_RELAXED);
		if (shared_mailbox == nullptr)
			state.SkipWithError("no memory");
	}
	/* The first turn of the loop is a barrier, so the mailbox is there for all. */
	if (state.thread_index() == 0) {
		uint64_t taken = 0;

		for (auto _ : state) {
			taken += subject_mailbox_drain(shared_mailbox);
			__atomic_store_n(&shared_taken, taken, __ATOMIC_RELEASE);
		}
	} else {
		uint32_t first = kBatch * static_cast<uint32_t>(state.thread_index());

		for (auto _ : state) {
			uint64_t taken = __atomic_load_n(&shared_taken, __ATOMIC_ACQUIRE);

			/* One link in flight for each poster is safe: all earlier mail has been taken. */
			if (posters == 1 && taken == posted) {
				subject_mailbox_post(shared_mailbox,
					first + static_cast<uint32_t>(posted % kBatch));
				posted++;
			}
		}
		state.counters["posted"] = benchmark::Counter(
			static_cast<double>(posted), benchmark::Counter::kIsRate);
	}
	/* The end of the loop is a barrier, too: nobody posts any more. */
	if (state.thread_index() == 0 && shared_mailbox != nullptr) {
		subject_mailbox_drain(shared_mailbox);
		subject_mailbox_destroy(shared_mailbox);
		shared_mailbox = nullptr;
	}
}
BENCHMARK(mailbox_post_shared)->Threads(2)->UseRealTime();

} // namespace
