/*
 * The decoding short cut; see tls_decode.h. ENGINE is deprecated but present in all of OpenSSL 3;
 * everything of it is in this file.
 *
 * What is registered is only a copy of what the library has built in, so a signature is made and
 * verified by the library's own code; only the way from certificate bytes to key object is shorter.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "engine/tls_decode.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>

#include <pthread.h>

/*
 * With our methods in place EC key generation takes the old path too, and that one knows curves by
 * their object's short name alone: "P-256" of EVP_EC_gen would be unknown. So each NIST name becomes
 * the short name of an object of its own, which the method's control function maps to the curve.
 */
#define CURVE_COUNT 3
static struct {
	const char *name;
	const char *object; /* a made-up identifier (X.667), never on the wire */
	int curve;
	int alias; /* written once under enable_once */
} curves[CURVE_COUNT] = {
	{"P-256", "2.25.306030530375700992780250627926528371232.1", NID_X9_62_prime256v1,
		NID_undef},
	{"P-384", "2.25.306030530375700992780250627926528371232.2", NID_secp384r1, NID_undef},
	{"P-521", "2.25.306030530375700992780250627926528371232.3", NID_secp521r1, NID_undef},
};

#define METHOD_COUNT 3
static const int method_kinds[METHOD_COUNT] = {
	EVP_PKEY_EC /* first */, EVP_PKEY_ED25519, EVP_PKEY_RSA};
/* Written once under enable_once; the engine's table frees what is in here with the engine. */
static EVP_PKEY_METHOD *methods[METHOD_COUNT];
static pthread_once_t enable_once = PTHREAD_ONCE_INIT;
static bool is_enabled;

/* ENGINE_PKEY_METHS_PTR: list the kinds (method NULL), or give the method of one kind. */
static int on_engine_method(ENGINE *engine, EVP_PKEY_METHOD **method, const int **kinds, int kind)
{
	(void)engine;
	if (method == NULL) {
		*kinds = method_kinds;
		return METHOD_COUNT;
	}
	for (int index = 0; index < METHOD_COUNT; index++)
		if (method_kinds[index] == kind) {
			*method = methods[index];
			return 1;
		}
	*method = NULL;
	return 0;
}

static int (*ec_control)(EVP_PKEY_CTX *context, int type, int number, void *pointer);

static int on_ec_control(EVP_PKEY_CTX *context, int type, int number, void *pointer)
{
	if (type == EVP_PKEY_CTRL_EC_PARAMGEN_CURVE_NID)
		for (int index = 0; index < CURVE_COUNT; index++)
			if (number != NID_undef && number == curves[index].alias)
				number = curves[index].curve;
	return ec_control(context, type, number, pointer);
}

static bool alias_curves(EVP_PKEY_METHOD *method)
{
	int (*control_text)(EVP_PKEY_CTX * context, const char *type, const char *value);

	for (int index = 0; index < CURVE_COUNT; index++) {
		curves[index].alias = OBJ_sn2nid(curves[index].name);
		if (curves[index].alias == NID_undef)
			curves[index].alias =
				OBJ_create(curves[index].object, curves[index].name, NULL);
		if (curves[index].alias == NID_undef)
			return false;
	}
	EVP_PKEY_meth_get_ctrl(method, &ec_control, &control_text);
	EVP_PKEY_meth_set_ctrl(method, on_ec_control, control_text);
	return ec_control != NULL;
}

static bool copy_methods(void)
{
	for (int index = 0; index < METHOD_COUNT; index++) {
		const EVP_PKEY_METHOD *builtin = EVP_PKEY_meth_find(method_kinds[index]);
		int flags = 0;

		if (builtin == NULL)
			return false;
		EVP_PKEY_meth_get0_info(NULL, &flags, builtin);
		methods[index] = EVP_PKEY_meth_new(method_kinds[index], flags);
		if (methods[index] == NULL)
			return false;
		EVP_PKEY_meth_copy(methods[index], builtin);
	}
	return alias_curves(methods[0]);
}

static void drop_methods(void)
{
	for (int index = 0; index < METHOD_COUNT; index++) {
		EVP_PKEY_meth_free(methods[index]);
		methods[index] = NULL;
	}
}

/* The public half, by way of the bytes that a certificate would carry. */
static EVP_PKEY *decode_public(OSSL_LIB_CTX *library, EVP_PKEY *key)
{
	uint8_t *der = NULL;
	const uint8_t *cursor;
	int bytes = i2d_PUBKEY(key, &der);
	EVP_PKEY *public_key = NULL;

	if (bytes <= 0)
		return NULL;
	cursor = der;
	public_key = d2i_PUBKEY_ex(NULL, &cursor, bytes, library, NULL);
	OPENSSL_free(der);
	return public_key;
}

static int sign(OSSL_LIB_CTX *library, EVP_PKEY *key, const char *digest, const uint8_t *data,
	uint8_t *signature, size_t *bytes)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int result = 0;

	if (context != NULL &&
		EVP_DigestSignInit_ex(context, NULL, digest, library, NULL, key, NULL) == 1)
		result = EVP_DigestSign(context, signature, bytes, data, 32);
	EVP_MD_CTX_free(context);
	return result;
}

static int verify(OSSL_LIB_CTX *library, EVP_PKEY *key, const char *digest, const uint8_t *data,
	const uint8_t *signature, size_t bytes)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int result = -1;

	if (context != NULL &&
		EVP_DigestVerifyInit_ex(context, NULL, digest, library, NULL, key, NULL) == 1)
		result = EVP_DigestVerify(context, signature, bytes, data, 32);
	EVP_MD_CTX_free(context);
	return result;
}

/* One kind of key: a good signature passes, the same over other data does not. */
static bool check_key(OSSL_LIB_CTX *library, EVP_PKEY *key, const char *digest)
{
	uint8_t data[32] = {1, 2, 3}, signature[512];
	size_t bytes = sizeof(signature);
	EVP_PKEY *public_key = key != NULL ? decode_public(library, key) : NULL;
	bool is_good = public_key != NULL && EVP_PKEY_eq(public_key, key) == 1 &&
		sign(library, key, digest, data, signature, &bytes) == 1 &&
		verify(library, public_key, digest, data, signature, bytes) == 1;

	data[0] ^= 1;
	is_good = is_good && verify(library, public_key, digest, data, signature, bytes) != 1;
	EVP_PKEY_free(public_key);
	EVP_PKEY_free(key);
	return is_good;
}

/* In a library context of its own, as a shard's is. */
static bool check_decoding(void)
{
	OSSL_LIB_CTX *library = OSSL_LIB_CTX_new();
	bool is_good;

	if (library == NULL)
		return false;
	is_good = check_key(library, EVP_PKEY_Q_keygen(library, NULL, "EC", "P-256"), "SHA256") &&
		check_key(library, EVP_PKEY_Q_keygen(library, NULL, "ED25519"), NULL);
	OSSL_LIB_CTX_free(library);
	return is_good;
}

static ENGINE *volatile engine_enabled; /* never used, only reachable */

static void enable(void)
{
	ENGINE *engine = ENGINE_new();

	if (engine == NULL)
		return;
	if (!copy_methods() || ENGINE_set_id(engine, "peerhub-decode") != 1 ||
		ENGINE_set_name(engine, "peerhub key decoding") != 1 ||
		ENGINE_set_pkey_meths(engine, on_engine_method) != 1) {
		drop_methods();
		ENGINE_set_pkey_meths(engine, NULL);
		ENGINE_free(engine);
		ERR_clear_error();
		return;
	}
	if (ENGINE_register_pkey_meths(engine) == 1) {
		is_enabled = check_decoding();
		if (!is_enabled)
			ENGINE_unregister_pkey_meths(engine);
	}
	/* Registered for the life of the process, and named here for as long: where OpenSSL runs out of memory it
	 * loses count of its references to it. The table of registered engines holds a reference of its own;
	 * the last one frees the methods. */
	engine_enabled = is_enabled ? engine : NULL;
	ENGINE_free(engine);
	ERR_clear_error();
}

bool tls_decode_enable(void)
{
	return pthread_once(&enable_once, enable) == 0 && is_enabled;
}
