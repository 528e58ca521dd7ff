/*
 * The store: rows and key files that stay together through damage, permissions, limits, other
 * processes, forks and deaths. Codes of the identities are in identity_test.c.
 */
#include "api/credential.h"
#include "api/database.h"
#include "api/identity.h"

#include "store_home.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define NOBODY 65534u

static void make_identity(const char *classifier, char name[PH_NAME_BYTES_MAX])
{
	assert_result(identity_create(classifier, NULL, name), S_OK);
}

static void make_group(const char *creator, char group[PH_NAME_BYTES_MAX])
{
	struct group_properties properties;

	group_properties_init(&properties);
	strcpy(properties.creator, creator);
	assert_result(group_create(&properties), S_OK);
	memcpy(group, properties.group, PH_NAME_BYTES_MAX);
}

static uint32_t identity_count(void)
{
	struct store_name_pair *pairs;
	uint32_t count;

	assert_result(store_identities(&pairs, &count), S_OK);
	free(pairs);
	return count;
}

/* Opens the store first, so that it has swept. */
static void check_counts(void)
{
	uint32_t count = identity_count();

	assert_int_equal(key_files(NULL, 0), count);
}

/* ---- where it is -------------------------------------------------------------------------- */

static void directories_are_made(void **state)
{
	char path[256], name[PH_NAME_BYTES_MAX];
	struct stat status;

	(void)state;
	home_path(path, sizeof(path), "a//b/c/");
	assert_result(store_home_set(path), S_OK);
	make_identity("x", name);
	home_path(path, sizeof(path), "a/b");
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	home_path(path, sizeof(path), "a/b/c/keys");
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	home_path(path, sizeof(path), "a/b/c/store.db");
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	home_path(path, sizeof(path), "a/b/c/store.db-wal");
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
}

static void environment_chooses(void **state)
{
	char path[256], home[256];

	(void)state;
	assert_result(store_home_set(NULL), S_OK);
	home_path(path, sizeof(path), "by-home");
	setenv("PEERHUB_HOME", path, 1);
	setenv("XDG_DATA_HOME", test_home, 1);
	assert_result(store_home(home, sizeof(home)), S_OK);
	assert_string_equal(home, path);
	unsetenv("PEERHUB_HOME");
	store_close();
	home_path(path, sizeof(path), "peerhub");
	assert_result(store_home(home, sizeof(home)), S_OK);
	assert_string_equal(home, path);
	unsetenv("XDG_DATA_HOME");
	store_close();
	assert_result(store_home(home, 4), E_INVALIDARG);
}

static void relative_home_stays_where_it_was(void **state)
{
	char before[256], home[256], path[256];

	(void)state;
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(test_home), 0);
	assert_result(store_home_set("rel"), S_OK);
	assert_int_equal(chdir("/"), 0);
	assert_result(store_home(home, sizeof(home)), S_OK);
	home_path(path, sizeof(path), "rel");
	assert_string_equal(home, path);
	assert_int_equal(chdir(before), 0);
}

static void home_that_is_a_file(void **state)
{
	char path[256];
	uint32_t count;
	struct store_name_pair *pairs;
	int fd;

	(void)state;
	home_path(path, sizeof(path), "file");
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_result(store_home_set(path), S_OK);
	assert_result(store_identities(&pairs, &count), HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND));
	assert_non_null(strstr(PeerhubLastErrorText(), path));
}

/* Runs `part` as an ordinary user in a child; its result is the exit code. */
static void as_nobody(int (*part)(void))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		if (getuid() == 0 && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
			_exit(77);
		_exit(part());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int list_is_denied(void)
{
	struct store_name_pair *pairs;
	uint32_t count;
	HRESULT result = store_identities(&pairs, &count);

	return result == E_ACCESSDENIED ? 0 : 1;
}

static void no_permission(void **state)
{
	(void)state;
	assert_int_equal(chmod(test_home, 0700), 0);
	if (getuid() == 0)
		as_nobody(list_is_denied); /* cannot even enter */
	assert_int_equal(chmod(test_home, 0500), 0);
	if (getuid() == 0)
		assert_int_equal(chown(test_home, NOBODY, NOBODY), 0);
	as_nobody(list_is_denied); /* cannot make the file */
}

static int write_is_denied(void)
{
	char name[PH_NAME_BYTES_MAX];

	return identity_create("x", NULL, name) == E_ACCESSDENIED ? 0 : 1;
}

static int make_for_nobody(void)
{
	char name[PH_NAME_BYTES_MAX];
	HRESULT result = identity_create("x", NULL, name);

	store_close();
	return SUCCEEDED(result) ? 0 : 1;
}

static void read_only_store(void **state)
{
	char path[256];

	(void)state;
	if (getuid() == 0)
		assert_int_equal(chown(test_home, NOBODY, NOBODY), 0);
	as_nobody(make_for_nobody);
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(chmod(path, 0400), 0);
	as_nobody(write_is_denied);
}

/* ---- damage ------------------------------------------------------------------------------- */

/* A store with an identity in it, closed; its file's bytes. */
static uint8_t *make_and_read(size_t *bytes)
{
	char name[PH_NAME_BYTES_MAX], path[256];
	struct stat status;
	uint8_t *data;
	int fd;

	make_identity("x", name);
	make_identity("y", name);
	store_close();
	home_path(path, sizeof(path), "store.db");
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	*bytes = (size_t)status.st_size;
	data = malloc(*bytes);
	assert_non_null(data);
	assert_int_equal(read(fd, data, *bytes), (ssize_t)*bytes);
	close(fd);
	return data;
}

static void write_store(const uint8_t *data, size_t bytes)
{
	char path[256];
	int fd;

	home_path(path, sizeof(path), "store.db");
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
	close(fd);
}

/* Refused with a text, for reading and for writing, and byte for byte as it was. */
static void expect_refused(const uint8_t *data, size_t bytes, const char *part)
{
	char path[256], name[PH_NAME_BYTES_MAX];
	struct store_name_pair *pairs;
	struct stat status;
	uint32_t count;
	uint8_t *now = malloc(bytes + 1);
	int fd;

	assert_non_null(now);
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	if (strstr(PeerhubLastErrorText(), part) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", PeerhubLastErrorText(), part);
	assert_result(identity_create("z", NULL, name), PEER_E_CERT_STORE_CORRUPTED);
	store_close();
	home_path(path, sizeof(path), "store.db");
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, bytes);
	assert_int_equal(read(fd, now, bytes + 1), (ssize_t)bytes);
	assert_memory_equal(now, data, bytes);
	close(fd);
	free(now);
	assert_int_equal(key_files(NULL, 0), 2);
}

static void garbage(void **state)
{
	size_t bytes;
	uint8_t *data = make_and_read(&bytes);

	(void)state;
	memset(data, 'x', bytes);
	write_store(data, bytes);
	expect_refused(data, bytes, "not a database");
	free(data);
}

static void truncated(void **state)
{
	static const size_t keep[] = {0, 1, 15, 16, 99, 100, 511, 4095, 4096, 4097, 12288};
	size_t bytes;
	uint8_t *data = make_and_read(&bytes);

	(void)state;
	for (size_t index = 0; index < sizeof(keep) / sizeof(keep[0]); index++) {
		assert_true(keep[index] < bytes);
		write_store(data, keep[index]);
		expect_refused(data, keep[index], "");
	}
	write_store(data, bytes);
	assert_int_equal(identity_count(), 2);
	free(data);
}

static void page_in_the_middle_overwritten(void **state)
{
	size_t bytes;
	uint8_t *data = make_and_read(&bytes);

	(void)state;
	for (size_t page = 1; page < bytes / 4096; page++) {
		uint8_t kept[4096];

		memcpy(kept, data + page * 4096, 4096);
		memset(data + page * 4096, 0xa5, 4096);
		write_store(data, bytes);
		expect_refused(data, bytes, "");
		memcpy(data + page * 4096, kept, 4096);
	}
	free(data);
}

static void newer_version(void **state)
{
	char path[256];
	sqlite3 *handle;
	size_t bytes;
	uint8_t *data = make_and_read(&bytes);

	(void)state;
	free(data);
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(handle, "PRAGMA user_version=3", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(handle);
	data = NULL;
	{
		struct stat status;
		int fd = open(path, O_RDONLY);

		assert_int_equal(fstat(fd, &status), 0);
		bytes = (size_t)status.st_size;
		data = malloc(bytes);
		assert_int_equal(read(fd, data, bytes), (ssize_t)bytes);
		close(fd);
	}
	expect_refused(data, bytes, "newer");
	free(data);
}

/* A store of the version before gets what it lacks, and keeps what it has; one that only says so does not. */
static void version_before(void **state)
{
	static const char *const makes[] = {"DROP TABLE revocations; PRAGMA user_version=1",
		"PRAGMA user_version=1", "DROP TABLE revocations; PRAGMA user_version=2"};
	struct store_bytes list;
	uint32_t count;
	char path[256];
	sqlite3 *handle;
	size_t bytes;

	(void)state;
	free(make_and_read(&bytes));
	home_path(path, sizeof(path), "store.db");
	for (unsigned i = 0; i < sizeof(makes) / sizeof(makes[0]); i++) {
		store_close();
		assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
		assert_int_equal(sqlite3_exec(handle, makes[i], NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(handle);
		for (unsigned again = 0; again < 2; again++) {
			assert_result(store_revocations_get("x", &list, 1, &count),
				i == 0 ? S_OK : PEER_E_CERT_STORE_CORRUPTED);
			store_close();
		}
		if (i == 0)
			assert_int_equal(identity_count(), 2);
	}
}

/* Somebody put a pipe or a directory in its place: refused at once, and left there. */
static void not_a_file(void **state)
{
	struct store_name_pair *pairs;
	struct stat status;
	char path[256];
	uint32_t count;
	size_t bytes;

	(void)state;
	free(make_and_read(&bytes));
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	assert_int_equal(stat(path, &status), 0);
	assert_true(S_ISFIFO(status.st_mode));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	assert_int_equal(key_files(NULL, 0), 2);
}

static void database_of_another_program(void **state)
{
	char path[256];
	sqlite3 *handle;
	struct store_name_pair *pairs;
	uint32_t count;

	(void)state;
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(handle, "CREATE TABLE theirs(x)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(handle);
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	assert_non_null(strstr(PeerhubLastErrorText(), "another program"));
}

/* Ours in every way but for one table, view or trigger: what they do would run inside our own calls,
 * and the first one here never ends. */
static void database_with_other_tables(void **state)
{
	static const char *const others[] = {
		"ALTER TABLE issued RENAME TO other; CREATE VIEW issued AS WITH RECURSIVE n(x) AS"
		" (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT 1 AS group_id, x||'' AS subject,"
		" '' AS friendly_name, x'' AS spki, 1 AS role, 1 AS valid_from, 1 AS valid_to FROM n",
		"DROP TABLE issued",
		"CREATE TABLE more(x)",
		"CREATE INDEX more ON groups(friendly_name)",
		"CREATE TRIGGER more AFTER INSERT ON groups BEGIN DELETE FROM identities; END",
		"ALTER TABLE groups ADD COLUMN more",
	};
	char path[256], name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	struct store_issued issued;
	sqlite3 *handle;

	make_identity("x", name);
	make_group(name, group);
	home_path(path, sizeof(path), "store.db");
	for (size_t index = 0; index < sizeof(others) / sizeof(others[0]); index++) {
		assert_result(store_issued_get(group, name, &issued), PEER_E_NOT_FOUND);
		store_close();
		assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
		assert_int_equal(sqlite3_exec(handle, others[index], NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(handle);
		assert_result(store_issued_get(group, name, &issued), PEER_E_CERT_STORE_CORRUPTED);
		assert_non_null(strstr(PeerhubLastErrorText(), "other tables"));
		(void)home_teardown(state);
		assert_int_equal(home_setup(state), 0);
		make_identity("x", name);
		make_group(name, group);
		home_path(path, sizeof(path), "store.db");
	}
}

/* A database that is gone while the keys are there is not made anew: that would orphan them. */
static void database_vanished(void **state)
{
	char path[256], name[PH_NAME_BYTES_MAX];
	struct store_name_pair *pairs;
	uint32_t count;

	(void)state;
	make_identity("x", name);
	store_close();
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(unlink(path), 0);
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	assert_int_equal(key_files(NULL, 0), 1);
	assert_int_equal(access(path, F_OK), -1);
}

static void change_rows(const char *sql)
{
	char path[256];
	sqlite3 *handle;

	store_close();
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
	assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_changes(handle), 1);
	sqlite3_close(handle);
}

/* A sound database with rows that make no sense: refused at the row, nothing crashes. */
static void rows_that_make_no_sense(void **state)
{
	char name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	struct membership *membership;
	struct store_name_pair *pairs;
	struct store_bytes key;
	char *xml;
	uint32_t count;

	(void)state;
	make_identity("x", name);
	make_group(name, group);
	change_rows("UPDATE memberships SET chain=x'3000'");
	assert_result(membership_load(name, group, &membership), PEER_E_CERT_STORE_CORRUPTED);
	change_rows("UPDATE memberships SET addresses=x'00'");
	assert_result(membership_load(name, group, &membership), PEER_E_CERT_STORE_CORRUPTED);
	assert_result(membership_delete(name, group), S_OK);
	change_rows("UPDATE identities SET certificate=x'00'");
	assert_result(identity_to_xml(name, &xml), PEER_E_CERT_STORE_CORRUPTED);
	change_rows("UPDATE identities SET friendly_name=CAST(x'ff' AS TEXT)");
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	change_rows("UPDATE identities SET friendly_name=printf('%1000s', 'x')");
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
	change_rows("UPDATE identities SET friendly_name=''");
	change_rows("UPDATE identities SET key_file='../store.db'");
	assert_result(store_identity_key(name, &key), PEER_E_CERT_STORE_CORRUPTED);
	change_rows("UPDATE identities SET name='nonsense'");
	assert_result(store_identities(&pairs, &count), PEER_E_CERT_STORE_CORRUPTED);
}

static void properties_not_of_the_group(void **state)
{
	char name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	struct group_properties properties;
	struct membership *membership;

	(void)state;
	make_identity("x", name);
	make_group(name, group);
	change_rows("UPDATE groups SET properties=CAST(substr(properties, 1, 16) || x'01020304'"
		    " || substr(properties, 21) AS BLOB)");
	assert_result(membership_load(name, group, &membership), PEER_E_CERT_STORE_CORRUPTED);
	assert_result(group_properties_get(name, group, &properties), PEER_E_CERT_STORE_CORRUPTED);
}

/* ---- keys ------------------------------------------------------------------------------- */

static void key_access(void **state)
{
	static const mode_t bad[] = {0000, 0200, 0604, 0620, 0640, 0644, 0666, 0700, 04600};
	char name[PH_NAME_BYTES_MAX], path[256], other[300];
	struct store_bytes key;

	(void)state;
	make_identity("x", name);
	assert_int_equal(key_files(path, sizeof(path)), 1);
	for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++) {
		assert_int_equal(chmod(path, bad[index]), 0);
		assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
		assert_result(store_identity_key_check(name), PEER_E_NO_KEY_ACCESS);
	}
	assert_int_equal(chmod(path, 0600), 0);
	assert_result(store_identity_key(name, &key), S_OK);
	store_bytes_free(&key);
	if (getuid() == 0) {
		assert_int_equal(chown(path, NOBODY, NOBODY), 0);
		assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
		assert_int_equal(chown(path, 0, 0), 0);
	}
	assert_int_equal(truncate(path, 10), 0);
	assert_result(store_identity_key_check(name), S_OK); /* readable, but no key: */
	{
		EVP_PKEY *loaded;

		assert_result(identity_load_key(name, &loaded), PEER_E_NO_KEY_ACCESS);
	}
	assert_int_equal(truncate(path, 0), 0);
	assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(truncate(path, 1 << 20), 0);
	assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
	(void)!snprintf(other, sizeof(other), "%s.away", path);
	assert_int_equal(rename(path, other), 0);
	assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(symlink(other, path), 0);
	assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_result(store_identity_key(name, &key), PEER_E_NO_KEY_ACCESS);
}

/* The key of another identity in its place is noticed. */
static void key_of_another(void **state)
{
	char one[PH_NAME_BYTES_MAX], two[PH_NAME_BYTES_MAX];
	EVP_PKEY *key;

	(void)state;
	make_identity("1", one);
	make_identity("2", two);
	change_rows("UPDATE identities SET key_file='00000000000000000000000000000000.key'"
		    " WHERE id=1");
	{
		char keys[256], from[300], to[300];
		sqlite3 *handle;
		sqlite3_stmt *statement;

		home_path(keys, sizeof(keys), "store.db");
		assert_int_equal(sqlite3_open(keys, &handle), SQLITE_OK);
		assert_int_equal(
			sqlite3_prepare_v2(handle, "SELECT key_file FROM identities WHERE id=2", -1,
				&statement, NULL),
			SQLITE_OK);
		assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
		(void)!snprintf(from, sizeof(from), "%s/keys/%s", test_home,
			(const char *)sqlite3_column_text(statement, 0));
		sqlite3_finalize(statement);
		sqlite3_close(handle);
		(void)!snprintf(
			to, sizeof(to), "%s/keys/00000000000000000000000000000000.key", test_home);
		assert_int_equal(link(from, to), 0);
	}
	assert_result(identity_load_key(two, &key), S_OK);
	EVP_PKEY_free(key);
	assert_result(identity_load_key(one, &key), PEER_E_NO_KEY_ACCESS);
}

/* Left by a process that died: swept. What is not named like ours stays. */
static bool signs_as(EVP_PKEY *key, EVP_PKEY *original)
{
	static const uint8_t text[] = "text";
	EVP_MD_CTX *signing = EVP_MD_CTX_new(), *verifying = EVP_MD_CTX_new();
	uint8_t signature[128];
	size_t bytes = sizeof(signature);
	bool good = EVP_DigestSignInit(signing, NULL, EVP_sha256(), NULL, key) == 1 &&
		EVP_DigestSign(signing, signature, &bytes, text, sizeof(text)) == 1 &&
		EVP_DigestVerifyInit(verifying, NULL, EVP_sha256(), NULL, original) == 1 &&
		EVP_DigestVerify(verifying, signature, bytes, text, sizeof(text)) == 1;

	EVP_MD_CTX_free(signing);
	EVP_MD_CTX_free(verifying);
	return good;
}

/* Any bit of a key file: what still loads is still the key, the private half included. */
static void key_with_a_bit_turned(void **state)
{
	char name[PH_NAME_BYTES_MAX], path[256];
	uint8_t data[512];
	EVP_PKEY *original, *key;
	uint32_t refused = 0;
	size_t bytes;
	FILE *file;

	(void)state;
	make_identity("x", name);
	assert_int_equal(key_files(path, sizeof(path)), 1);
	assert_result(identity_load_key(name, &original), S_OK);
	file = fopen(path, "r+b");
	assert_non_null(file);
	setbuf(file, NULL);
	bytes = fread(data, 1, sizeof(data), file);
	assert_in_range(bytes, 32, sizeof(data) - 1);
	for (size_t bit = 0; bit < 8 * bytes; bit++) {
		uint8_t turned = data[bit / 8] ^ (uint8_t)(1u << bit % 8);
		HRESULT result;

		assert_int_equal(fseek(file, (long)(bit / 8), SEEK_SET), 0);
		assert_int_equal(fwrite(&turned, 1, 1, file), 1);
		result = identity_load_key(name, &key);
		if (result == S_OK)
			assert_true(signs_as(key, original));
		else
			assert_result(result, PEER_E_NO_KEY_ACCESS);
		refused += result != S_OK;
		EVP_PKEY_free(key);
		assert_int_equal(fseek(file, (long)(bit / 8), SEEK_SET), 0);
		assert_int_equal(fwrite(&data[bit / 8], 1, 1, file), 1);
	}
	fclose(file);
	EVP_PKEY_free(original);
	assert_true(refused > 8 * 32 + 8 * 64); /* both halves, at least */
}

/* Any byte of an identity's certificate, in the database: what goes out to others is refused. */
static void certificate_with_a_bit_turned(void **state)
{
	char name[PH_NAME_BYTES_MAX];
	struct store_identity identity;
	char *xml;

	(void)state;
	make_identity("x", name);
	assert_result(store_identity_get(name, &identity), S_OK);
	for (size_t at = 0; at < identity.certificate.bytes; at++) {
		identity.certificate.data[at] ^= (uint8_t)(1u << at % 8);
		assert_result(store_identity_update(&identity), S_OK);
		assert_result(identity_to_xml(name, &xml), PEER_E_CERT_STORE_CORRUPTED);
		assert_null(xml);
		if (at % 64 == 0) /* it costs a key derivation */
			assert_result(identity_export(name, "password", &xml),
				PEER_E_CERT_STORE_CORRUPTED);
		identity.certificate.data[at] ^= (uint8_t)(1u << at % 8);
	}
	assert_result(store_identity_update(&identity), S_OK);
	assert_result(identity_to_xml(name, &xml), S_OK);
	free(xml);
	store_identity_free(&identity);
}

static void orphans_are_swept(void **state)
{
	static const char *const files[] = {"keys/0123456789abcdef0123456789abcdef.key",
		"keys/0123456789abcdef0123456789abcdef.tmp", "keys/README"};
	char name[PH_NAME_BYTES_MAX], path[256];

	(void)state;
	make_identity("x", name);
	store_close();
	for (int index = 0; index < 3; index++) {
		int fd;

		home_path(path, sizeof(path), files[index]);
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
	assert_int_equal(key_files(NULL, 0), 4);
	assert_int_equal(identity_count(), 1);
	assert_int_equal(key_files(NULL, 0), 2);
	assert_int_equal(access(path, F_OK), 0);
}

/* ---- limits ------------------------------------------------------------------------------- */

/* A file size limit is a full disk: the code, and nothing changed. */
static void disk_full(void **state)
{
	char name[PH_NAME_BYTES_MAX], more[PH_NAME_BYTES_MAX];
	struct rlimit limit, before;
	HRESULT result = S_OK;

	(void)state;
	make_identity("x", name);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 150000; /* the log may grow a little before it is full */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (int index = 0; index < 100 && SUCCEEDED(result); index++)
		result = identity_create("y", NULL, more);
	assert_result(result, PEER_E_DISK_FULL);
	limit.rlim_cur = 50; /* not even a key */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_result(identity_create("z", NULL, more), PEER_E_DISK_FULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	store_close(); /* a key whose commit failed is an orphan until the next opening */
	check_counts();
	make_identity("after", more);
	store_close();
	check_counts();
}

static void lock_is_held_elsewhere(void **state)
{
	char name[PH_NAME_BYTES_MAX], path[256];
	sqlite3 *handle;

	(void)state;
	make_identity("x", name);
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
	assert_int_equal(sqlite3_exec(handle, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(identity_count(), 1); /* reading goes on */
	assert_int_equal(sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(handle);
	make_identity("y", name);
}

/* ---- memberships ------------------------------------------------------------------------- */

static void membership_is_kept(void **state)
{
	char name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	ph_address addresses[2] = {{.sin6_family = AF_INET6, .sin6_scope_id = 7}};
	struct membership *membership, *again;

	(void)state;
	make_identity("x", name);
	make_group("", group);
	assert_int_equal(ph_address_parse("127.0.0.1:3587", &addresses[1]), 0);
	addresses[0].sin6_port = 0x1234;
	addresses[0].sin6_addr.s6_addr[0] = 0xfe;
	assert_result(membership_load("", group, &membership), S_OK);
	assert_string_equal(membership->identity, name);
	assert_string_equal(membership->friendly_name, name);
	assert_true(membership->is_creator);
	assert_true(membership->is_synchronised);
	assert_true(membership->node_id != 0);
	assert_int_equal(membership->trust.role, ROLE_ADMIN);
	assert_int_equal(membership->chain_count, 2);
	assert_true(membership->has_properties);
	assert_result(membership_addresses(name, group, addresses, 2), S_OK);
	assert_result(membership_synchronised(name, group), S_OK);
	store_close();
	assert_result(membership_load(name, group, &again), S_OK);
	assert_int_equal(again->node_id, membership->node_id);
	assert_int_equal(again->address_count, 2);
	assert_memory_equal(again->addresses, addresses, sizeof(addresses));
	{
		struct ph_credentials *credentials;

		assert_int_equal(ph_credentials_create(again->chain, again->chain_count, again->key,
					 &credentials),
			0);
		ph_credentials_put(credentials);
	}
	membership_free(membership);
	membership_free(again);
}

static void membership_codes(void **state)
{
	static const char unknown[] = "0123456789abcdef0123456789abcdef01234567.x";
	char name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX], path[256];
	struct group_properties properties;
	struct membership *membership = (struct membership *)0x1;

	(void)state;
	make_identity("x", name);
	make_group(name, group);
	assert_result(membership_load(name, "nonsense", &membership), E_INVALIDARG);
	assert_null(membership);
	assert_result(membership_load(name, NULL, &membership), E_INVALIDARG);
	assert_result(membership_load("nonsense", group, &membership), E_INVALIDARG);
	assert_result(membership_load(name, unknown, &membership), PEER_E_NOT_FOUND);
	assert_result(membership_load(unknown, group, &membership), PEER_E_NOT_FOUND);
	assert_result(membership_check(name, group), S_OK);
	assert_result(membership_check(name, unknown), PEER_E_INVALID_GROUP);
	assert_result(membership_synchronised(name, unknown), PEER_E_INVALID_GROUP);
	assert_result(membership_addresses(name, unknown, NULL, 0), PEER_E_INVALID_GROUP);
	assert_result(group_properties_get(name, unknown, &properties), PEER_E_INVALID_GROUP);
	assert_result(membership_delete(name, unknown), PEER_E_NOT_FOUND);
	assert_result(membership_delete("nonsense", group), E_INVALIDARG);
	assert_result(membership_delete(name, "nonsense"), E_INVALIDARG);
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0755), 0);
	assert_result(membership_load(name, group, &membership), PEER_E_NO_KEY_ACCESS);
	assert_result(membership_delete(name, group), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(chmod(path, 0700), 0);
	assert_int_equal(key_files(NULL, 0), 2);
	assert_result(membership_delete(name, group), S_OK);
	assert_int_equal(key_files(NULL, 0), 1); /* the group's key went with it */
	assert_result(membership_delete(name, group), PEER_E_NOT_FOUND);
	assert_result(membership_check(name, group), PEER_E_INVALID_GROUP);
}

static void creation_codes(void **state)
{
	char name[PH_NAME_BYTES_MAX], path[256];
	struct group_properties good, properties;

	(void)state;
	group_properties_init(&good);
	properties = good;
	assert_result(group_create(&properties), PEER_E_INVALID_PEER_NAME); /* no default */
	make_identity("x", name);
#define creates(change, code)                                   \
	do {                                                    \
		properties = good;                              \
		change;                                         \
		assert_result(group_create(&properties), code); \
	} while (0)
	creates(strcpy(properties.creator, "nonsense"), PEER_E_INVALID_PEER_NAME);
	creates(strcpy(properties.creator, "0123456789abcdef0123456789abcdef01234567.x"),
		PEER_E_INVALID_PEER_NAME);
	creates(strcpy(properties.group, name), PEER_E_INVALID_GROUP_PROPERTIES);
	creates(memset(properties.classifier, 'x', 150), PEER_E_INVALID_CLASSIFIER);
	creates(memset(properties.friendly_name, 'x', 256), PEER_E_INVALID_GROUP_PROPERTIES);
	creates(memset(properties.comment, 'x', 256), PEER_E_INVALID_GROUP_PROPERTIES);
	creates(properties.flags = 8, PEER_E_INVALID_GROUP_PROPERTIES);
	creates(properties.member_data_lifetime_s = 28799, PEER_E_INVALID_GROUP_PROPERTIES);
	creates(properties.member_data_lifetime_s = 315360001, PEER_E_INVALID_GROUP_PROPERTIES);
	creates(properties.presence_lifetime_s = 299, PEER_E_INVALID_GROUP_PROPERTIES);
	creates(properties.authentication_schemes = 4, PEER_E_INVALID_GROUP_PROPERTIES);
	creates(properties.authentication_schemes = 0, PEER_E_INVALID_GROUP_PROPERTIES);
	creates(strcpy(properties.cloud, "Elsewhere_"), PEER_E_NO_CLOUD);
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0755), 0);
	creates((void)0, PEER_E_NO_KEY_ACCESS);
	assert_int_equal(chmod(path, 0700), 0);
	creates(strcpy(properties.cloud, "Global_"), S_OK);
	assert_string_equal(properties.creator, name);
	assert_result(membership_delete(name, properties.group), S_OK);
	creates((void)(properties.member_data_lifetime_s = 0, properties.presence_lifetime_s = 0),
		S_OK);
	assert_int_equal(properties.presence_lifetime_s, 300);
	assert_result(membership_delete(name, properties.group), S_OK);
	assert_result(store_identity_delete(name), S_OK);
	creates(strcpy(properties.creator, name), HRESULT_FROM_WIN32(ERROR_DELETE_PENDING));
#undef creates
}

static void properties_change(void **state)
{
	char name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX], path[256];
	struct group_properties properties, got, bad;

	(void)state;
	make_identity("x", name);
	make_group(name, group);
	assert_result(group_properties_get(name, group, &properties), S_OK);
	assert_int_equal(properties.sequence, 1);
	strcpy(properties.friendly_name, "Renamed");
	strcpy(properties.comment, "A comment");
	assert_result(group_properties_set(name, &properties), S_OK);
	assert_int_equal(properties.sequence, 2);
	store_close();
	assert_result(group_properties_get(name, group, &got), S_OK);
	assert_memory_equal(&got, &properties, sizeof(got));
	{
		struct store_name_pair *pairs;
		uint32_t count;

		assert_result(store_groups(name, &pairs, &count), S_OK);
		assert_int_equal(count, 1);
		assert_string_equal(pairs[0].friendly_name, "Renamed");
		free(pairs);
	}
#define frozen(change)                                                                            \
	do {                                                                                      \
		bad = got;                                                                        \
		change;                                                                           \
		assert_result(group_properties_set(name, &bad), PEER_E_INVALID_GROUP_PROPERTIES); \
	} while (0)
	frozen(strcpy(bad.cloud, "Global_"));
	frozen(strcpy(bad.classifier, "other"));
	frozen(strcpy(bad.creator, "0123456789abcdef0123456789abcdef01234567.x"));
	frozen(bad.member_data_lifetime_s++);
	frozen(bad.presence_lifetime_s++);
	frozen(bad.authentication_schemes = 3);
	frozen(memset(bad.comment, 'x', 256));
#undef frozen
	bad = got;
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0755), 0);
	assert_result(group_properties_set(name, &bad), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(chmod(path, 0700), 0);
	strcpy(bad.group, "0123456789abcdef0123456789abcdef01234567.x");
	assert_result(group_properties_set(name, &bad), PEER_E_INVALID_GROUP);
}

/* ---- several processes and threads --------------------------------------------------------- */

/* Two processes change one store at once; each sees the other's changes. */
static void two_processes(void **state)
{
	char name[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	pid_t child;
	int status;

	(void)state;
	make_identity("x", name);
	make_group(name, group);
	assert_result(membership_check(name, group), S_OK);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		char other[PH_NAME_BYTES_MAX];
		bool good = true;

		for (int index = 0; index < 10; index++)
			good &= SUCCEEDED(identity_create("child", NULL, other));
		good &= SUCCEEDED(membership_delete(name, group));
		_exit(good ? 0 : 1);
	}
	for (int index = 0; index < 10; index++) {
		char other[PH_NAME_BYTES_MAX];

		make_identity("parent", other);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(identity_count(), 21);
	assert_int_equal(key_files(NULL, 0), 21);
	assert_result(membership_check(name, group), PEER_E_INVALID_GROUP); /* deleted elsewhere */
}

/* Several processes make the same new store at once. */
static void made_by_many(void **state)
{
	pid_t children[4];
	int status;

	(void)state;
	for (int index = 0; index < 4; index++) {
		children[index] = fork();
		assert_true(children[index] >= 0);
		if (children[index] == 0) {
			char name[PH_NAME_BYTES_MAX];

			if (SUCCEEDED(identity_create("x", NULL, name)))
				_exit(0);
			fprintf(stderr, "child: %s\n", PeerhubLastErrorText());
			_exit(1);
		}
	}
	for (int index = 0; index < 4; index++) {
		assert_int_equal(waitpid(children[index], &status, 0), children[index]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	assert_int_equal(identity_count(), 4);
	assert_int_equal(key_files(NULL, 0), 4);
}

static void *thread_run(void *context)
{
	uint32_t *good = context;

	for (int index = 0; index < 5; index++) {
		char name[PH_NAME_BYTES_MAX];
		struct group_properties properties;

		group_properties_init(&properties);
		if (FAILED(identity_create("t", NULL, name)))
			continue;
		strcpy(properties.creator, name);
		if (FAILED(group_create(&properties)))
			continue;
		if (FAILED(membership_delete(name, properties.group)))
			continue;
		if (SUCCEEDED(store_identity_delete(name)))
			(*good)++;
	}
	return NULL;
}

static void many_threads(void **state)
{
	pthread_t threads[4];
	uint32_t good[4] = {0};

	(void)state;
	for (int index = 0; index < 4; index++)
		assert_int_equal(
			pthread_create(&threads[index], NULL, thread_run, &good[index]), 0);
	for (int index = 0; index < 4; index++) {
		pthread_join(threads[index], NULL);
		assert_int_equal(good[index], 5);
	}
	assert_int_equal(identity_count(), 0);
	assert_int_equal(key_files(NULL, 0), 0);
}

/* ---- death ------------------------------------------------------------------------------- */

#define DEATHS 20

/* What the child did, reported after the store said so. */
struct report {
	char kind; /* 'i' identity made, 'g' group made, 'd' group deleted, 'x' identity deleted */
	char identity[PH_NAME_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX];
};

static void child_works(int fd)
{
	for (;;) {
		struct report report = {.kind = 'i'};
		struct group_properties properties;

		group_properties_init(&properties);
		if (FAILED(identity_create("k", NULL, report.identity)))
			_exit(1);
		if (write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
			_exit(2);
		strcpy(properties.creator, report.identity);
		if (FAILED(group_create(&properties)))
			_exit(3);
		strcpy(report.group, properties.group);
		report.kind = 'g';
		if (write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
			_exit(4);
		if (report.identity[0] % 2 == 0)
			continue;
		if (FAILED(membership_delete(report.identity, report.group)))
			_exit(5);
		report.kind = 'd';
		if (write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
			_exit(6);
		if (FAILED(store_identity_delete(report.identity)))
			_exit(7);
		report.kind = 'x';
		if (write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
			_exit(8);
	}
}

/* The reports stand in order; only the last identity of a child may have gone one step further. */
static void check_reports(const struct report *reports, uint32_t count)
{
	for (uint32_t index = 0; index < count; index++) {
		const struct report *report = &reports[index];
		bool is_last = index + 1 == count ||
			strcmp(report->identity, reports[index + 1].identity) != 0;
		struct membership *membership;
		bool next_may_be_done = index + 1 == count;
		HRESULT result;

		if (!is_last)
			continue;
		switch (report->kind) {
		case 'i':
			assert_result(store_identity_key_check(report->identity), S_OK);
			break;
		case 'g':
			result = membership_load(report->identity, report->group, &membership);
			if (!next_may_be_done || result != PEER_E_NOT_FOUND)
				assert_result(result, S_OK);
			membership_free(membership);
			break;
		case 'd':
			result = store_membership_exists(report->identity, report->group);
			assert_result(result, PEER_E_NOT_FOUND);
			result = store_identity_key_check(report->identity);
			if (!next_may_be_done || result != PEER_E_NOT_FOUND)
				assert_result(result, S_OK);
			break;
		default:
			assert_result(store_identity_key_check(report->identity), PEER_E_NOT_FOUND);
			break;
		}
	}
}

/* Every identity has its key, every group loads, and no file is without a row. */
static void check_whole(void)
{
	struct store_name_pair *pairs, *groups;
	uint32_t count, group_count, keys = 0;

	assert_result(store_identities(&pairs, &count), S_OK);
	for (uint32_t index = 0; index < count; index++) {
		EVP_PKEY *key;

		assert_result(identity_load_key(pairs[index].name, &key), S_OK);
		EVP_PKEY_free(key);
		keys++;
		assert_result(store_groups(pairs[index].name, &groups, &group_count), S_OK);
		for (uint32_t group = 0; group < group_count; group++) {
			struct membership *membership;

			assert_result(
				membership_load(pairs[index].name, groups[group].name, &membership),
				S_OK);
			membership_free(membership);
			keys++;
		}
		free(groups);
	}
	free(pairs);
	assert_int_equal(key_files(NULL, 0), keys);
}

static void death_at_any_point(void **state)
{
	unsigned seed = (unsigned)getpid();

	(void)state;
	printf("seed %u\n", seed);
	srandom(seed);
	for (int round = 0; round < DEATHS; round++) {
		struct report *reports = calloc(1000, sizeof(*reports));
		uint32_t count = 0;
		int pipe_ends[2], status;
		pid_t child;

		assert_non_null(reports);
		assert_int_equal(pipe(pipe_ends), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			close(pipe_ends[0]);
			child_works(pipe_ends[1]);
		}
		close(pipe_ends[1]);
		usleep(5000 + (useconds_t)random() % 40000); /* any time is a good time to die */
		assert_int_equal(kill(child, SIGKILL), 0);
		while (count < 1000 &&
			read(pipe_ends[0], &reports[count], sizeof(*reports)) ==
				(ssize_t)sizeof(*reports))
			count++;
		close(pipe_ends[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		check_reports(reports, count);
		check_whole();
		store_close();
		free(reports);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		home_test(directories_are_made),
		home_test(environment_chooses),
		home_test(relative_home_stays_where_it_was),
		home_test(home_that_is_a_file),
		home_test(no_permission),
		home_test(read_only_store),
		home_test(garbage),
		home_test(truncated),
		home_test(page_in_the_middle_overwritten),
		home_test(newer_version),
		home_test(version_before),
		home_test(not_a_file),
		home_test(database_of_another_program),
		home_test(database_with_other_tables),
		home_test(database_vanished),
		home_test(rows_that_make_no_sense),
		home_test(properties_not_of_the_group),
		home_test(key_access),
		home_test(key_of_another),
		home_test(key_with_a_bit_turned),
		home_test(certificate_with_a_bit_turned),
		home_test(orphans_are_swept),
		home_test(disk_full),
		home_test(lock_is_held_elsewhere),
		home_test(membership_is_kept),
		home_test(membership_codes),
		home_test(creation_codes),
		home_test(properties_change),
		home_test(two_processes),
		home_test(made_by_many),
		home_test(many_threads),
		home_test(death_at_any_point),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
