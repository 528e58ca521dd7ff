/* Failing allocations and live blocks; see inject.h. */
#include "tests/nth/inject.h"

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE_BITS 17
#define TABLE_SIZE (1u << TABLE_BITS) /* at most half full: 65,536 live blocks */

/* The C library's own: the names may be wrapped where this is linked. */
extern void *__real_malloc(size_t bytes) __attribute__((weak));
extern void *__real_calloc(size_t count, size_t bytes) __attribute__((weak));
extern void *__real_realloc(void *block, size_t bytes) __attribute__((weak));
extern void __real_free(void *block) __attribute__((weak));

struct block {
	void *at; /* NULL: an empty place */
	size_t bytes;
	uint64_t number;
	uint32_t pool;
};

static struct block *table;
static struct inject_stack *stacks; /* of the same place in the table */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t block_number;
static size_t live[POOL_COUNT];
static bool recording;

static struct inject_options armed;
static pthread_t armed_by;
static atomic_bool is_armed;
static atomic_uint_fast64_t tries, failed;
static struct inject_stack *failed_stacks; /* INJECT_FAILED_MAX */
static atomic_uint failed_stack_count;
static _Thread_local uint32_t paused;

const char *inject_pool_name(enum inject_pool pool)
{
	static const char *const names[] = {"ours", "openssl", "sqlite", "expat"};

	return names[pool];
}

static _Noreturn void inject_fault(const char *what)
{
	fprintf(stderr, "inject: %s\n", what);
	abort();
}

static void *real_malloc(size_t bytes)
{
	return __real_malloc != NULL ? __real_malloc(bytes) : malloc(bytes);
}

static void *real_realloc(void *block, size_t bytes)
{
	return __real_realloc != NULL ? __real_realloc(block, bytes) : realloc(block, bytes);
}

static void real_free(void *block)
{
	if (__real_free != NULL)
		__real_free(block);
	else
		free(block);
}

static void *pages_get(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (pages == MAP_FAILED)
		inject_fault("no address space");
	return pages;
}

/* ---- names --------------------------------------------------------------------------------- */

static const uint8_t *program; /* our own file */
static const ElfW(Sym) * symbols;
static size_t symbol_count;
static const char *symbol_names;
static uintptr_t program_base, program_end;

static int on_program(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)bytes, (void)context;
	program_base = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t end =
			info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type == PT_LOAD && end > program_end)
			program_end = end;
	}
	return 1; /* the first is the program */
}

/* The program's own symbol table names static functions, which the dynamic linker does not know. */
static void names_load(void)
{
	const ElfW(Ehdr) * head;
	const ElfW(Shdr) * sections;
	struct stat status;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)dl_iterate_phdr(on_program, NULL);
	if (fd < 0 || fstat(fd, &status) < 0)
		inject_fault("the program cannot be read");
	program = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (program == MAP_FAILED)
		inject_fault("the program cannot be mapped");
	head = (const void *)program;
	sections = (const void *)(program + head->e_shoff);
	for (int i = 0; i < head->e_shnum; i++) {
		if (sections[i].sh_type != SHT_SYMTAB)
			continue;
		symbols = (const void *)(program + sections[i].sh_offset);
		symbol_count = sections[i].sh_size / sizeof(*symbols);
		symbol_names = (const char *)(program + sections[sections[i].sh_link].sh_offset);
	}
}

static bool function_find(const void *address, char *name, size_t name_bytes)
{
	uintptr_t at = (uintptr_t)address;
	Dl_info info;

	if (at >= program_base && at < program_end) {
		at -= program_base;
		for (size_t i = 0; i < symbol_count; i++) {
			if (ELF64_ST_TYPE(symbols[i].st_info) != STT_FUNC ||
				at < symbols[i].st_value ||
				at >= symbols[i].st_value + symbols[i].st_size)
				continue;
			snprintf(name, name_bytes, "%s", symbol_names + symbols[i].st_name);
			name[strcspn(name, ".")] = '\0'; /* conn_greet.constprop.0 */
			return true;
		}
		snprintf(name, name_bytes, "?");
		return true;
	}
	if (dladdr(address, &info) != 0 && info.dli_sname != NULL)
		snprintf(name, name_bytes, "%s", info.dli_sname);
	else
		snprintf(name, name_bytes, "?");
	return false;
}

#define MEMO_SIZE 16384u

/* One thread: only the looking back asks. */
bool inject_function(const void *address, char *name, size_t name_bytes)
{
	static struct memo {
		const void *address;
		bool ours;
		char name[64];
	} * memos;
	struct memo *memo;

	if (memos == NULL)
		memos = pages_get(MEMO_SIZE * sizeof(*memos));
	memo = &memos[((uintptr_t)address * 0x9e3779b97f4a7c15u >> 40) % MEMO_SIZE];
	if (memo->address != address) {
		memo->address = address;
		memo->ours = function_find(address, memo->name, sizeof(memo->name));
	}
	snprintf(name, name_bytes, "%s", memo->name);
	return memo->ours;
}

/* Those of the way from an allocation to here say nothing. */
static bool is_plumbing(const char *name)
{
	static const char *const names[] = {"inject_", "pool_", "on_first", "openssl_malloc",
		"openssl_realloc", "table_add", "CRYPTO_malloc", "CRYPTO_zalloc", "CRYPTO_realloc",
		"CRYPTO_clear_realloc", "__wrap_", "backtrace", "memory_", "__interceptor_",
		"___interceptor_", "___wrap_"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(name, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

void inject_stack_text(
	const struct inject_stack *stack, char *text, size_t text_bytes, bool library_part)
{
	char name[128], last[128] = "";
	bool begun = false, ours;
	size_t at = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < stack->count; i++) {
		/* A return address may be the first one behind its function. */
		ours = inject_function((const char *)stack->frames[i] - 1, name, sizeof(name));
		if (strcmp(name, "?") == 0 || (!begun && is_plumbing(name)) ||
			strcmp(name, last) == 0)
			continue;
		begun = true;
		strcpy(last, name);
		if (at + strlen(name) + 4 >= text_bytes)
			return;
		at += (size_t)sprintf(text + at, "%s%s", at > 0 ? " < " : "", name);
		if ((ours && library_part) || strcmp(name, "main") == 0)
			return;
	}
}

void inject_stack_here(struct inject_stack *stack)
{
	int count = backtrace(stack->frames, (int)INJECT_FRAMES_MAX);

	stack->count = count > 0 ? (uint32_t)count : 0;
}

/* ---- the table ------------------------------------------------------------------------------ */

static uint32_t table_home(const void *at)
{
	return (uint32_t)(((uint64_t)(uintptr_t)at >> 4) * 0x9e3779b97f4a7c15u >>
		(64 - TABLE_BITS));
}

static void table_add(void *at, size_t bytes, enum inject_pool pool)
{
	struct inject_stack stack = {0};
	uint32_t place = table_home(at);

	if (recording)
		inject_stack_here(&stack);
	pthread_mutex_lock(&table_lock);
	while (table[place].at != NULL)
		place = (place + 1) % TABLE_SIZE;
	table[place] = (struct block){at, bytes, ++block_number, pool};
	if (recording)
		stacks[place] = stack;
	live[pool]++;
	if (live[POOL_OURS] + live[POOL_OPENSSL] + live[POOL_SQLITE] > TABLE_SIZE / 2)
		inject_fault("too many live blocks");
	pthread_mutex_unlock(&table_lock);
}

static int64_t table_find(const void *at)
{
	for (uint32_t place = table_home(at); table[place].at != NULL;
		place = (place + 1) % TABLE_SIZE)
		if (table[place].at == at)
			return place;
	return -1;
}

/* Whoever stands behind the hole and would not be found any more moves into it. */
static void table_close_hole(uint32_t hole)
{
	for (uint32_t place = (hole + 1) % TABLE_SIZE; table[place].at != NULL;
		place = (place + 1) % TABLE_SIZE) {
		uint32_t home = table_home(table[place].at);

		if ((place - home) % TABLE_SIZE < (place - hole) % TABLE_SIZE)
			continue;
		table[hole] = table[place];
		if (recording)
			stacks[hole] = stacks[place];
		hole = place;
	}
	table[hole].at = NULL;
}

static bool table_remove(const void *at, struct block *was)
{
	int64_t place;

	pthread_mutex_lock(&table_lock);
	place = table_find(at);
	if (place >= 0) {
		if (was != NULL)
			*was = table[place];
		live[table[place].pool]--;
		table_close_hole((uint32_t)place);
	}
	pthread_mutex_unlock(&table_lock);
	return place >= 0;
}

size_t inject_block_bytes(const void *block)
{
	size_t bytes;
	int64_t place;

	pthread_mutex_lock(&table_lock);
	place = table_find(block);
	bytes = place >= 0 ? table[place].bytes : 0;
	pthread_mutex_unlock(&table_lock);
	return bytes;
}

/* ---- failing -------------------------------------------------------------------------------- */

void inject_arm(const struct inject_options *options)
{
	armed = *options;
	armed_by = pthread_self();
	atomic_store(&failed_stack_count, 0);
	atomic_store(&tries, 0);
	atomic_store(&failed, 0);
	atomic_store(&is_armed, true);
}

void inject_disarm(void)
{
	atomic_store(&is_armed, false);
}

uint64_t inject_tries(void)
{
	return atomic_load(&tries);
}

uint64_t inject_failed(void)
{
	return atomic_load(&failed);
}

void inject_pause(void)
{
	paused++;
}

void inject_resume(void)
{
	paused--;
}

bool inject_refuses(enum inject_pool pool)
{
	uint64_t number;

	if (!atomic_load_explicit(&is_armed, memory_order_acquire) || paused > 0 ||
		!(armed.pools & (1u << pool)))
		return false;
	if (armed.this_thread && !pthread_equal(armed_by, pthread_self()))
		return false;
	number = atomic_fetch_add(&tries, 1) + 1;
	if (armed.nth == 0 || number < armed.nth || (number > armed.nth && !armed.for_ever))
		return false;
	if (recording) {
		unsigned place = atomic_fetch_add(&failed_stack_count, 1);

		if (place < INJECT_FAILED_MAX)
			inject_stack_here(&failed_stacks[place]);
	}
	if (atomic_fetch_add(&failed, 1) == 0 && armed.on_first != NULL)
		armed.on_first();
	return true;
}

void *inject_alloc(enum inject_pool pool, size_t bytes, bool zeroed)
{
	void *block;

	if (inject_refuses(pool))
		return NULL;
	block = real_malloc(bytes > 0 ? bytes : 1);
	if (block == NULL)
		inject_fault("out of memory");
	if (zeroed)
		memset(block, 0, bytes);
	table_add(block, bytes, pool);
	return block;
}

void *inject_realloc(enum inject_pool pool, void *block, size_t bytes)
{
	struct block was;
	void *grown;

	if (block == NULL)
		return inject_alloc(pool, bytes, false);
	if (inject_refuses(pool))
		return NULL;
	if (!table_remove(block, &was))
		return real_realloc(block, bytes > 0 ? bytes : 1);
	grown = real_realloc(block, bytes > 0 ? bytes : 1);
	if (grown == NULL)
		inject_fault("out of memory");
	table_add(grown, bytes, pool);
	return grown;
}

bool inject_free(void *block)
{
	if (block == NULL)
		return true;
	if (!table_remove(block, NULL))
		return false;
	real_free(block);
	return true;
}

/* ---- looking back ---------------------------------------------------------------------------- */

void inject_record(bool on)
{
	recording = on;
}

uint64_t inject_mark(void)
{
	uint64_t mark;

	pthread_mutex_lock(&table_lock);
	mark = block_number;
	pthread_mutex_unlock(&table_lock);
	return mark;
}

size_t inject_live(enum inject_pool pool)
{
	size_t count;

	pthread_mutex_lock(&table_lock);
	count = live[pool];
	pthread_mutex_unlock(&table_lock);
	return count;
}

void inject_walk(enum inject_pool pool, uint64_t mark,
	bool (*visit)(void *context, size_t bytes, const struct inject_stack *stack), void *context)
{
	static const struct inject_stack unknown;

	for (uint32_t place = 0; place < TABLE_SIZE; place++) {
		const struct block *block = &table[place];

		if (block->at == NULL || block->pool != pool || block->number <= mark)
			continue;
		if (!visit(context, block->bytes, recording ? &stacks[place] : &unknown))
			return;
	}
}

static bool on_counted(void *context, size_t bytes, const struct inject_stack *stack)
{
	(void)bytes, (void)stack;
	++*(size_t *)context;
	return true;
}

size_t inject_live_since(enum inject_pool pool, uint64_t mark)
{
	size_t count = 0;

	inject_walk(pool, mark, on_counted, &count);
	return count;
}

const struct inject_stack *inject_failed_stack(uint32_t index)
{
	unsigned count = atomic_load(&failed_stack_count);

	return index < count && index < INJECT_FAILED_MAX ? &failed_stacks[index] : NULL;
}

/* ---- OpenSSL --------------------------------------------------------------------------------- */

static void *openssl_malloc(size_t bytes, const char *file, int line)
{
	(void)file, (void)line;
	return bytes == 0 ? NULL : inject_alloc(POOL_OPENSSL, bytes, false);
}

static void openssl_free(void *block, const char *file, int line)
{
	(void)file, (void)line;
	if (!inject_free(block))
		inject_fault("OpenSSL frees what it never had");
}

static void *openssl_realloc(void *block, size_t bytes, const char *file, int line)
{
	if (bytes == 0) {
		openssl_free(block, file, line);
		return NULL;
	}
	return inject_realloc(POOL_OPENSSL, block, bytes);
}

void inject_init(void)
{
	struct inject_stack warm;

	table = pages_get(TABLE_SIZE * sizeof(*table));
	stacks = pages_get(TABLE_SIZE * sizeof(*stacks));
	failed_stacks = pages_get(INJECT_FAILED_MAX * sizeof(*failed_stacks));
	names_load();
	inject_stack_here(
		&warm); /* the unwinder is loaded at its first use, with memory of its own */
}

bool inject_openssl(void)
{
	return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) == 1;
}
