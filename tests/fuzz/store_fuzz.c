/*
 * The store from outside: a database file, its log and the values in its rows, bent as the input says,
 * then everything that reads and writes the store. Refused or served, it answers with one of its
 * codes, leaves a refused file as it was, and leaks nothing.
 *
 * An input bends a store that was made in order (two identities, a group with its key, a membership,
 * an issued credential): bytes of the file or of the log, the file's length, one value of a row, the
 * schema. Allocations fail too, ours and SQLite's.
 */
#include "api/database.h"
#include "api/identity.h"
#include "api/store.h"
#include "stress/scratch.h"
#include "tests/fuzz/failing.h"
#include "tests/fuzz/group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define BENDS_MAX 8
#define FILE_BYTES_MAX (4u << 20)

struct file {
	char name[64];
	uint8_t *data; /* of the store made in order */
	size_t bytes;
	uint8_t *bent;
	size_t bent_bytes;
};

static struct file database = {.name = "store.db"}, wal = {.name = "store.db-wal"};
static struct file keys[3]; /* swept by a store whose rows forgot them, so they are put back */
static char home[SCRATCH_BYTES];
static pid_t owner; /* who made the home */
static char group[PH_NAME_BYTES_MAX], first[PH_NAME_BYTES_MAX], second[PH_NAME_BYTES_MAX];

/* ---- SQLite's memory ------------------------------------------------------------------------ */

static sqlite3_mem_methods memory_of_sqlite;
static unsigned sqlite_failing_in;

static void *sqlite_memory_alloc(int bytes)
{
	if (sqlite_failing_in > 0 && --sqlite_failing_in == 0)
		return NULL;
	return memory_of_sqlite.xMalloc(bytes);
}

static void *sqlite_memory_realloc(void *block, int bytes)
{
	if (sqlite_failing_in > 0 && --sqlite_failing_in == 0)
		return NULL;
	return memory_of_sqlite.xRealloc(block, bytes);
}

static void sqlite_memory_is_ours(void)
{
	sqlite3_mem_methods methods;

	FUZZ_MUST(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory_of_sqlite) == SQLITE_OK);
	methods = memory_of_sqlite;
	methods.xMalloc = sqlite_memory_alloc;
	methods.xRealloc = sqlite_memory_realloc;
	FUZZ_MUST(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK);
}

#define PATH_BYTES 512 /* home and a name */

/* ---- files ---------------------------------------------------------------------------------- */

static void path_of(const struct file *file, char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "%s/%s", home, file->name);
}

static void file_load(const struct file *file, uint8_t *data, size_t *bytes)
{
	char path[PATH_BYTES];
	ssize_t got;
	int fd;

	path_of(file, path);
	*bytes = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	got = read(fd, data, FILE_BYTES_MAX);
	FUZZ_MUST(got >= 0 && got < (ssize_t)FILE_BYTES_MAX);
	*bytes = (size_t)got;
	close(fd);
}

static void file_store(const struct file *file, const uint8_t *data, size_t bytes)
{
	char path[PATH_BYTES];
	int fd;

	path_of(file, path);
	if (bytes == 0) {
		FUZZ_MUST(unlink(path) == 0 || errno == ENOENT);
		return;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_MUST(fd >= 0);
	FUZZ_MUST(write(fd, data, bytes) == (ssize_t)bytes);
	close(fd);
}

/* The private keys: every input finds the same. */
static void keys_load(void)
{
	char path[PATH_BYTES];
	uint32_t count = 0;
	struct dirent *entry;
	DIR *listing;

	snprintf(path, sizeof(path), "%s/keys", home);
	FUZZ_MUST((listing = opendir(path)) != NULL);
	while ((entry = readdir(listing)) != NULL) {
		struct file *key = &keys[count];

		if (entry->d_name[0] == '.')
			continue;
		FUZZ_MUST(++count <= 3);
		snprintf(key->name, sizeof(key->name), "keys/%.50s", entry->d_name);
		FUZZ_MUST((key->data = malloc(FILE_BYTES_MAX)) != NULL);
		file_load(key, key->data, &key->bytes);
	}
	closedir(listing);
	FUZZ_MUST(count == 3);
}

static void keys_restore(void)
{
	for (uint32_t index = 0; index < 3; index++) {
		char path[PATH_BYTES];

		path_of(&keys[index], path);
		if (access(path, F_OK) < 0)
			file_store(&keys[index], keys[index].data, keys[index].bytes);
	}
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

static void finish(void)
{
	store_close();
	if (owner == getpid())
		(void)nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	for (uint32_t index = 0; index < 3; index++)
		free(keys[index].data);
	free(database.data);
	free(database.bent);
	free(wal.data);
	free(wal.bent);
}

/* ---- the store made in order ---------------------------------------------------------------- */

static void name_of(EVP_PKEY *key, const char *classifier, char name[PH_NAME_BYTES_MAX])
{
	char authority[PEER_AUTHORITY_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t bytes;

	FUZZ_MUST(key_spki(key, spki, &bytes) == 0);
	peer_authority_of_key(spki, bytes, authority);
	FUZZ_MUST(peer_name_make(authority, classifier, name) == 0);
}

static void add_identity(const char *name, EVP_PKEY *key)
{
	struct store_identity identity = {.friendly_name = "Somebody"};
	struct member member = {.key = key};
	struct store_bytes der;
	X509 *x509;

	strcpy(member.name, name);
	FUZZ_MUST(key_spki(key, member.spki, &member.spki_bytes) == 0);
	x509 = member_certify(&member, &member, NULL, ROLE_NONE);
	FUZZ_MUST(certificate_to_der(
			  x509, &identity.certificate.data, &identity.certificate.bytes) == 0);
	X509_free(x509);

	FUZZ_MUST(key_to_der(key, &der.data, &der.bytes) == 0);
	strcpy(identity.name, name);
	FUZZ_MUST(SUCCEEDED(store_identity_add(&identity, der)));
	OPENSSL_free(identity.certificate.data);
	key_der_free(der.data, der.bytes);
}

static void add_membership(const char *identity, struct store_bytes key)
{
	static uint8_t chain[700] = {4, 5, 6}, properties[200] = {7, 8};
	struct store_membership membership = {
		.group_friendly_name = "The group", .node_id = 4711, .address_count = 2};

	strcpy(membership.identity, identity);
	strcpy(membership.group, group);
	membership.chain = (struct store_bytes){chain, sizeof(chain)};
	membership.properties = (struct store_bytes){properties, sizeof(properties)};
	FUZZ_MUST(ph_address_parse("[fe80::1%1]:3587", &membership.addresses[0]) == 0);
	FUZZ_MUST(ph_address_parse("127.0.0.1:1", &membership.addresses[1]) == 0);
	FUZZ_MUST(SUCCEEDED(store_membership_put(&membership, key)));
}

static void add_issued(EVP_PKEY *key)
{
	struct store_issued issued = {.friendly_name = "A guest",
		.role = ROLE_MEMBER,
		.valid_from_s = 1,
		.valid_to_s = 2000000000};

	strcpy(issued.group, group);
	strcpy(issued.subject, second);
	FUZZ_MUST(key_spki(key, issued.spki, &issued.spki_bytes) == 0);
	FUZZ_MUST(SUCCEEDED(store_issued_put(&issued)));
}

static void make_store(void)
{
	EVP_PKEY *made[3];
	struct store_bytes der;

	for (uint32_t index = 0; index < 3; index++)
		FUZZ_MUST((made[index] = key_create()) != NULL);
	name_of(made[0], "group", group);
	name_of(made[1], "first", first);
	name_of(made[2], "second", second);
	add_identity(first, made[1]);
	add_identity(second, made[2]);
	FUZZ_MUST(key_to_der(made[0], &der.data, &der.bytes) == 0);
	add_membership(first, der);
	key_der_free(der.data, der.bytes);
	store_close(); /* so far in the file, what follows in the log */
	add_membership(second, (struct store_bytes){0});
	add_issued(made[2]);
	for (uint32_t index = 0; index < 3; index++)
		EVP_PKEY_free(made[index]);
}

static void prepare(void)
{
	const char *place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	random_is_ours();
	sqlite_memory_is_ours();
	random_state = 1;
	FUZZ_MUST(scratch_create(home, place, "fuzz"));
	owner = getpid();
	FUZZ_MUST(atexit(finish) == 0);
	FUZZ_MUST(SUCCEEDED(store_home_set(home)));
	database.data = malloc(FILE_BYTES_MAX);
	database.bent = malloc(FILE_BYTES_MAX);
	wal.data = malloc(FILE_BYTES_MAX);
	wal.bent = malloc(FILE_BYTES_MAX);
	FUZZ_MUST(database.data != NULL && database.bent != NULL && wal.data != NULL &&
		wal.bent != NULL);
	make_store();
	keys_load();
	file_load(&database, database.data, &database.bytes);
	file_load(&wal, wal.data, &wal.bytes);
	FUZZ_MUST(database.bytes > 0 && wal.bytes > 0);
	store_close();
}

static bool is_special; /* not a file at all */

/* ---- bending -------------------------------------------------------------------------------- */

static void bend_bytes(struct input *input, struct file *file)
{
	size_t offset = input_number(input, 3), bytes;
	const uint8_t *taken = input_take(input, 1u + input_byte(input) % 64u, &bytes);

	if (file->bent_bytes == 0)
		return;
	offset %= file->bent_bytes;
	if (bytes > file->bent_bytes - offset)
		bytes = file->bent_bytes - offset;
	if (bytes > 0)
		memcpy(file->bent + offset, taken, bytes);
}

static void bend_length(struct input *input, struct file *file)
{
	size_t bytes = input_number(input, 3);

	if (bytes < file->bent_bytes)
		file->bent_bytes = bytes;
}

/* The whole file is the input's. */
static void bend_all(struct input *input, struct file *file)
{
	size_t bytes;
	const uint8_t *taken = input_take(input, FILE_BYTES_MAX / 2, &bytes);

	if (bytes > 0)
		memcpy(file->bent, taken, bytes);
	file->bent_bytes = bytes;
}

static int is_long(void *context)
{
	unsigned *left = context;

	return *left == 0 || --*left == 0;
}

/* One value of one row, or a statement of the input's own, by another program. */
static void bend_rows(struct input *input)
{
	static const char *const columns[] = {"identities SET name", "identities SET friendly_name",
		"identities SET is_default", "identities SET certificate",
		"identities SET key_file", "groups SET name", "groups SET friendly_name",
		"groups SET properties", "memberships SET node_id",
		"memberships SET is_synchronised", "memberships SET chain",
		"memberships SET addresses", "memberships SET key_file", "issued SET subject",
		"issued SET friendly_name", "issued SET spki", "issued SET role",
		"issued SET valid_to"};
	char path[PATH_BYTES], sql[160];
	unsigned steps = 2000; /* of 100 instructions each: the program that did this ended, too */
	uint8_t what = input_byte(input), kind = input_byte(input);
	sqlite3_stmt *statement = NULL;
	sqlite3 *other = NULL;
	char *text;
	size_t bytes;
	const uint8_t *taken;

	path_of(&database, path);
	if (sqlite3_open_v2(path, &other, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
		sqlite3_progress_handler(other, 100, is_long, &steps);
		(void)sqlite3_exec(other, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
		if (what >= 128) {
			text = input_text(input, input_number(input, 2));
			(void)sqlite3_exec(other, text, NULL, NULL, NULL);
			free(text);
		} else {
			snprintf(sql, sizeof(sql), "UPDATE OR IGNORE %s=?1 WHERE rowid%%2=%d",
				columns[what % (sizeof(columns) / sizeof(columns[0]))], kind & 1);
			if (strncmp(sql + 17, "issued", 6) == 0)
				*strstr(sql, " WHERE") = '\0'; /* it has no rowid */
			taken = input_take(input, input_number(input, 2) % 4096, &bytes);
			if (sqlite3_prepare_v2(other, sql, -1, &statement, NULL) == SQLITE_OK) {
				if (kind % 4 == 0)
					(void)sqlite3_bind_text(statement, 1, (const char *)taken,
						(int)bytes, SQLITE_TRANSIENT);
				else if (kind % 4 == 1)
					(void)sqlite3_bind_blob(
						statement, 1, taken, (int)bytes, SQLITE_TRANSIENT);
				else if (kind % 4 == 2)
					(void)sqlite3_bind_int64(
						statement, 1, bytes > 0 ? (int8_t)taken[0] : 0);
				else
					(void)sqlite3_bind_zeroblob(
						statement, 1, (int)bytes << (kind >> 4) % 10);
				(void)sqlite3_step(statement);
				sqlite3_finalize(statement);
			}
		}
	}
	(void)sqlite3_close(other);
}

/* Something else than a file in its place. */
static void bend_kind(uint8_t what)
{
	char path[PATH_BYTES];

	path_of(&database, path);
	switch (what >> 4 & 3) {
	case 0:
		FUZZ_MUST(unlink(path) == 0 && mkdir(path, 0700) == 0);
		break;
	case 1:
		FUZZ_MUST(unlink(path) == 0 && mkfifo(path, 0600) == 0);
		break;
	case 2:
		FUZZ_MUST(unlink(path) == 0 && symlink("nowhere", path) == 0);
		break;
	default:
		FUZZ_MUST(unlink(path) == 0 && symlink(path, path) == 0);
		break;
	}
}

/* The place is a file's again. */
static void restore_kind(void)
{
	char path[PATH_BYTES];
	struct stat status;

	path_of(&database, path);
	if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode))
		FUZZ_MUST(remove(path) == 0);
	snprintf(path, sizeof(path), "%s/nowhere", home);
	FUZZ_MUST(unlink(path) == 0 || errno == ENOENT);
}

static void bend(struct input *input)
{
	bool rows = false;
	uint8_t special = 0;

	is_special = false;
	restore_kind();
	memcpy(database.bent, database.data, database.bytes);
	database.bent_bytes = database.bytes;
	memcpy(wal.bent, wal.data, wal.bytes);
	wal.bent_bytes = wal.bytes;
	for (int bends = 0; bends < BENDS_MAX && input->left > 0 && !rows; bends++) {
		uint8_t what = input_byte(input);
		struct file *file = what & 128 ? &wal : &database;

		switch (what % 8) {
		case 0:
		case 1:
			bend_bytes(input, file);
			break;
		case 2:
			bend_length(input, file);
			break;
		case 3:
			bend_all(input, file);
			break;
		case 4:
			wal.bent_bytes = 0;
			break;
		case 6:
			is_special = true;
			special = what;
			rows = true;
			break;
		default:
			rows = true;
			break;
		}
	}
	file_store(&database, database.bent, database.bent_bytes);
	file_store(&wal, wal.bent, wal.bent_bytes);
	keys_restore();
	if (is_special)
		bend_kind(special);
	else if (rows)
		bend_rows(input);
}

/* ---- using ---------------------------------------------------------------------------------- */

/* An answer of the store: see store.h. */
static HRESULT answered(HRESULT result)
{
	if (is_special)
		return result; /* the system's own refusals, too */
	switch (result) {
	case S_OK:
	case PEER_E_NOT_FOUND:
	case PEER_E_CERT_STORE_CORRUPTED:
	case PEER_E_NO_KEY_ACCESS:
	case PEER_E_ALREADY_EXISTS:
	case PEER_E_GROUPS_EXIST:
	case PEER_E_TOO_MANY_IDENTITIES:
	case E_OUTOFMEMORY:
	case E_ACCESSDENIED:
		return result;
	default:
		fprintf(stderr, "the store answers 0x%08x\n", (unsigned)result);
		abort();
	}
}

static void use_lists(void)
{
	struct store_name_pair *pairs;
	uint32_t count;

	if (SUCCEEDED(answered(store_identities(&pairs, &count))))
		for (uint32_t index = 0; index < count; index++)
			FUZZ_MUST(peer_name_is_secure(pairs[index].name) &&
				pairs[index].friendly_name[0] != '\0');
	free(pairs);
	(void)answered(store_groups(first, &pairs, &count));
	free(pairs);
}

static void use_identities(void)
{
	struct store_identity identity;
	struct store_bytes key;
	bool was_deleted;

	for (int index = 0; index < 3; index++) {
		const char *name = index == 0 ? NULL : index == 1 ? first : second;

		if (FAILED(answered(store_identity_get(name, &identity))))
			continue;
		FUZZ_MUST(peer_name_is_secure(identity.name));
		store_identity_free(&identity);
	}
	if (SUCCEEDED(answered(store_identity_key(first, &key))))
		store_bytes_free(&key);
	(void)answered(store_identity_key_check(second));
	(void)answered(store_identity_was_deleted(first, &was_deleted));
}

static void use_memberships(void)
{
	struct store_membership membership;
	struct store_bytes bytes;
	struct store_issued issued;

	for (int index = 0; index < 2; index++) {
		const char *name = index == 0 ? first : second;

		if (FAILED(answered(store_membership_get(name, group, &membership))))
			continue;
		FUZZ_MUST(membership.address_count <= STORE_ADDRESSES_MAX);
		store_membership_free(&membership);
	}
	(void)answered(store_membership_exists(first, group));
	if (SUCCEEDED(answered(store_group_key(first, group, &bytes))))
		store_bytes_free(&bytes);
	if (SUCCEEDED(answered(store_properties_get(group, &bytes))))
		store_bytes_free(&bytes);
	if (SUCCEEDED(answered(store_issued_get(group, second, &issued))))
		FUZZ_MUST(issued.role >= ROLE_MEMBER && issued.role <= ROLE_ADMIN &&
			issued.spki_bytes <= sizeof(issued.spki));
}

/* What goes out of it as text; dear, for it derives keys. */
static void export_all(void)
{
	char *xml;

	if (SUCCEEDED(identity_to_xml(first, &xml)))
		free(xml);
	if (SUCCEEDED(identity_export(first, "password", &xml)))
		free(xml);
	if (SUCCEEDED(identity_export(group, "password", &xml)))
		free(xml);
}

/* Any code of SQLite's has an answer. */
static void any_code(struct input *input)
{
	struct database closed = {.handle = NULL, .path = "nowhere"}, memory = closed;
	int code = (int)input_number(input, 2);

	errno = input_byte(input);
	FUZZ_MUST(SUCCEEDED(database_result(&closed, code)) ==
		((code & 0xff) == SQLITE_OK || (code & 0xff) == SQLITE_ROW ||
			(code & 0xff) == SQLITE_DONE));
	if (sqlite3_open(":memory:", &memory.handle) == SQLITE_OK)
		(void)database_result(&memory, code);
	(void)sqlite3_close(memory.handle);
}

/* A fork closes the store on both sides, and both may go on. */
static void fork_and_go_on(void)
{
	struct store_name_pair *pairs;
	uint32_t count;
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(0);
	FUZZ_MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
	(void)answered(store_identities(&pairs, &count));
	free(pairs);
}

/* The directory may be chosen while nothing is open in it, and only then. */
static void choose_home(struct input *input)
{
	char *path = input_text(input, input_number(input, 2));
	char small[4];

	store_pin();
	store_close();
	FUZZ_MUST(store_home_set(home) == PEER_E_GROUP_IN_USE);
	(void)store_home(small, sizeof(small));
	store_unpin();
	if (strchr(path, '/') == NULL || path[0] == '\0')
		FUZZ_MUST(FAILED(store_home_set("")));
	free(path);
	FUZZ_MUST(SUCCEEDED(store_home_set(home)));
}

static void change(uint8_t which)
{
	static uint8_t filler[64] = {9};
	struct store_bytes bytes = {filler, sizeof(filler)};
	struct store_identity identity = {.friendly_name = "New", .certificate = bytes};
	struct store_membership membership = {.group_friendly_name = "New",
		.chain = bytes,
		.properties = which & 8 ? bytes : (struct store_bytes){0},
		.address_count = which & 16 ? 1 : 0};
	struct store_issued issued = {
		.friendly_name = "New", .spki_bytes = 3, .role = ROLE_ADMIN, .valid_to_s = 3};

	strcpy(identity.name, which & 8 ? first : group); /* a name is a name */
	strcpy(membership.identity, which & 32 ? first : group);
	strcpy(membership.group, which & 64 ? group : first);
	strcpy(issued.group, which & 8 ? group : first);
	strcpy(issued.subject, first);
	switch (which % 8) {
	case 0:
		(void)answered(store_identity_add(&identity, bytes));
		break;
	case 1:
		(void)answered(store_identity_update(&identity));
		break;
	case 2:
		(void)answered(store_membership_put(
			&membership, which & 128 ? bytes : (struct store_bytes){0}));
		break;
	case 3:
		(void)answered(store_properties_set(issued.group, bytes, "New"));
		break;
	case 4:
		(void)answered(store_synchronised_set(first, issued.group));
		(void)answered(store_addresses_set(
			first, issued.group, membership.addresses, which & 16 ? 20 : 0));
		break;
	case 5:
		(void)answered(store_issued_put(&issued));
		break;
	case 6:
		(void)answered(store_membership_delete(which & 8 ? first : second, group));
		break;
	default:
		(void)answered(store_identity_delete(which & 8 ? first : second));
		break;
	}
}

/* Refused when it is opened: then it is byte for byte what it was. */
static bool open_store(void)
{
	char path[PATH_BYTES];
	HRESULT result;
	size_t bytes;
	uint8_t *now;

	result = store_home(path, sizeof(path));
	if (is_special)
		return SUCCEEDED(result);
	(void)answered(result);
	if (result != PEER_E_CERT_STORE_CORRUPTED)
		return SUCCEEDED(result);
	failing_set(0);
	now = malloc(FILE_BYTES_MAX);
	FUZZ_MUST(now != NULL);
	file_load(&database, now, &bytes);
	FUZZ_MUST(bytes == database.bent_bytes);
	FUZZ_MUST(bytes == 0 || memcmp(now, database.bent, bytes) == 0);
	free(now);
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	uint8_t ours, sqlite, changes;
	bool is_open;

	if (home[0] == '\0')
		prepare();
	random_state = 2;
	changes = input_byte(&input);
	ours = input_byte(&input);
	sqlite = input_byte(&input);
	if (changes == 255 && ours == 255) {
		any_code(&input);
		choose_home(&input);
		fork_and_go_on();
	}
	bend(&input);
	if (!is_special)
		file_load(&database, database.bent, &database.bent_bytes); /* as the rows left it */
	if (changes & 1)
		sqlite_failing_in = sqlite * 4u;
	if (changes & 2)
		failing_set(ours);
	is_open = open_store();
	if (!is_open && is_special) {
		/* Nothing works, and each call says so by itself. */
		use_lists();
		use_identities();
		use_memberships();
		for (unsigned which = 0; which < 256; which += 1 + (which % 8 == 7) * 24)
			change((uint8_t)which);
	} else if (is_open) {
		if (changes & 4)
			sqlite_failing_in = sqlite + (changes & 8 ? 0 : 256u * ours);
		if (changes & 8)
			failing_set(ours);
		use_lists();
		use_identities();
		use_memberships();
		if (changes == 251)
			export_all();
		for (int count = 0; count < changes >> 4; count++)
			change(input_byte(&input));
	}
	failing_set(0);
	sqlite_failing_in = 0;
	store_close();
	return 0;
}
