/*
 * win32.h: the part of the Windows vocabulary that p2p.h is written in.
 *
 * Types have the sizes of 64-bit Windows (LLP64), not those of the C types they are named after:
 * DWORD, LONG, ULONG and BOOL are 4 bytes, WCHAR is one 16-bit unit of UTF-16. Layouts and values
 * are pinned by tests/api/. C11, C17 and C++17; C linkage.
 *
 * Text literals: in C u"..." always works, and L"..." with -fshort-wchar. In C++ WCHAR is char16_t
 * and u"..." is the literal; with -fshort-wchar WCHAR is wchar_t and L"..." is the literal.
 *
 * AF_INET6 stays the platform's (10). The library also accepts the Windows value 23 on input.
 */
#ifndef PEERHUB_WIN32_H
#define PEERHUB_WIN32_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifndef __cplusplus
#include <uchar.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What the shared library exports of the Windows names; everything else in it is hidden. */
#if defined(PEERHUB_BUILD)
#define PEERHUB_P2P_API __attribute__((visibility("default")))
#else
#define PEERHUB_P2P_API
#endif

/* On 64-bit Windows these name the one calling convention there is; here they are empty. */
#ifndef WINAPI
#define WINAPI
#endif
#ifndef CALLBACK
#define CALLBACK
#endif
#ifndef VOID
#define VOID void
#endif
#ifndef CONST
#define CONST const
#endif
#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif

/* ---- scalar types ----------------------------------------------------------------------- */

typedef uint8_t BYTE, *PBYTE, *LPBYTE;
typedef char CHAR, *PSTR, *LPSTR;
typedef const char *PCSTR, *LPCSTR;
typedef uint8_t UCHAR, *PUCHAR;
typedef BYTE BOOLEAN, *PBOOLEAN;
typedef uint16_t WORD, *PWORD, *LPWORD;
typedef int16_t SHORT, *PSHORT;
typedef uint16_t USHORT, *PUSHORT;
typedef uint32_t DWORD, *PDWORD, *LPDWORD;
typedef uint32_t ULONG, *PULONG;
typedef uint32_t UINT, *PUINT;
typedef int32_t INT, *PINT;
typedef int32_t LONG, *PLONG, *LPLONG;
typedef int32_t BOOL, *PBOOL, *LPBOOL;
typedef long long LONGLONG, *PLONGLONG;
typedef unsigned long long ULONGLONG, *PULONGLONG;
typedef unsigned long long DWORDLONG, ULONG64, DWORD64;
typedef uintptr_t ULONG_PTR, *PULONG_PTR, DWORD_PTR;
typedef intptr_t LONG_PTR, *PLONG_PTR;
typedef size_t SIZE_T, *PSIZE_T;
typedef int32_t HRESULT;
typedef void *PVOID, *LPVOID;
typedef const void *LPCVOID;
typedef PVOID HANDLE, *PHANDLE, *LPHANDLE;

#if defined(__cplusplus) && defined(__SIZEOF_WCHAR_T__) && __SIZEOF_WCHAR_T__ == 2
typedef wchar_t WCHAR;
#else
typedef char16_t WCHAR;
#endif
typedef WCHAR *PWSTR, *LPWSTR, *PWCHAR;
typedef const WCHAR *PCWSTR, *LPCWSTR;

#ifdef __cplusplus
static_assert(sizeof(WCHAR) == 2, "WCHAR is one UTF-16 unit");
static_assert(sizeof(PVOID) == 8, "64-bit platforms only");
#else
_Static_assert(sizeof(WCHAR) == 2, "WCHAR is one UTF-16 unit");
_Static_assert(sizeof(PVOID) == 8, "64-bit platforms only");
#endif

#define MAKEWORD(low, high) ((WORD)(((low)&0xffu) | (((high)&0xffu) << 8)))
#define LOBYTE(word) ((BYTE)((word)&0xffu))
#define HIBYTE(word) ((BYTE)(((word) >> 8) & 0xffu))
#define ZeroMemory(destination, length) memset((destination), 0, (length))
#define CopyMemory(destination, source, length) memcpy((destination), (source), (length))

/* ---- structures ------------------------------------------------------------------------- */

#ifndef GUID_DEFINED
#define GUID_DEFINED
typedef struct _GUID {
	uint32_t Data1;
	uint16_t Data2;
	uint16_t Data3;
	uint8_t Data4[8];
} GUID, *PGUID, *LPGUID;
#endif
typedef const GUID *LPCGUID;

/* 100 ns units since 1601-01-01 UTC, in two halves, so that its alignment is 4. */
typedef struct _FILETIME {
	DWORD dwLowDateTime;
	DWORD dwHighDateTime;
} FILETIME, *PFILETIME, *LPFILETIME;

typedef struct in6_addr IN6_ADDR, *PIN6_ADDR;
typedef struct sockaddr_in6 SOCKADDR_IN6, *PSOCKADDR_IN6;

typedef struct _SECURITY_ATTRIBUTES {
	DWORD nLength;
	LPVOID lpSecurityDescriptor;
	BOOL bInheritHandle;
} SECURITY_ATTRIBUTES, *PSECURITY_ATTRIBUTES, *LPSECURITY_ATTRIBUTES;

typedef struct _CRYPTOAPI_BLOB {
	DWORD cbData;
	BYTE *pbData;
} CRYPT_OBJID_BLOB, *PCRYPT_OBJID_BLOB, CRYPT_DATA_BLOB, *PCRYPT_DATA_BLOB;

typedef struct _CRYPT_BIT_BLOB {
	DWORD cbData;
	BYTE *pbData;
	DWORD cUnusedBits;
} CRYPT_BIT_BLOB, *PCRYPT_BIT_BLOB;

typedef struct _CRYPT_ALGORITHM_IDENTIFIER {
	LPSTR pszObjId;
	CRYPT_OBJID_BLOB Parameters;
} CRYPT_ALGORITHM_IDENTIFIER, *PCRYPT_ALGORITHM_IDENTIFIER;

typedef struct _CERT_PUBLIC_KEY_INFO {
	CRYPT_ALGORITHM_IDENTIFIER Algorithm;
	CRYPT_BIT_BLOB PublicKey;
} CERT_PUBLIC_KEY_INFO, *PCERT_PUBLIC_KEY_INFO;

typedef ULONG_PTR HCRYPTPROV;
#define AT_KEYEXCHANGE 1

/* ---- HRESULT ---------------------------------------------------------------------------- */

#define SEVERITY_SUCCESS 0
#define SEVERITY_ERROR 1
#define FACILITY_WIN32 7
#define FACILITY_P2P 99

#define MAKE_HRESULT(severity, facility, code) \
	((HRESULT)(((uint32_t)(severity) << 31) | ((uint32_t)(facility) << 16) | (uint32_t)(code)))
#define HRESULT_CODE(hr) ((hr)&0xFFFF)
#define HRESULT_FACILITY(hr) (((hr) >> 16) & 0x1fff)
#define HRESULT_SEVERITY(hr) (((hr) >> 31) & 0x1)
#define SUCCEEDED(hr) (((HRESULT)(hr)) >= 0)
#define FAILED(hr) (((HRESULT)(hr)) < 0)
#define IS_ERROR(hr) (((uint32_t)(hr)) >> 31 == SEVERITY_ERROR)
#define HRESULT_FROM_WIN32(code)                                       \
	((HRESULT)(code) <= 0 ? (HRESULT)(code)                        \
			      : (HRESULT)(((uint32_t)(code)&0xFFFFu) | \
					((uint32_t)FACILITY_WIN32 << 16) | 0x80000000u))

#define S_OK ((HRESULT)0)
#define S_FALSE ((HRESULT)1)
#define E_NOTIMPL ((HRESULT)0x80004001u)
#define E_POINTER ((HRESULT)0x80004003u)
#define E_ABORT ((HRESULT)0x80004004u)
#define E_FAIL ((HRESULT)0x80004005u)
#define E_UNEXPECTED ((HRESULT)0x8000FFFFu)
#define E_ACCESSDENIED ((HRESULT)0x80070005u)
#define E_HANDLE ((HRESULT)0x80070006u)
#define E_OUTOFMEMORY ((HRESULT)0x8007000Eu)
#define E_INVALIDARG ((HRESULT)0x80070057u)

/* ---- Win32 codes: GetLastError, HRESULT_FROM_WIN32 -------------------------------------- */

#define NO_ERROR 0
#define ERROR_SUCCESS 0
#define ERROR_FILE_NOT_FOUND 2
#define ERROR_PATH_NOT_FOUND 3
#define ERROR_TOO_MANY_OPEN_FILES 4
#define ERROR_ACCESS_DENIED 5
#define ERROR_INVALID_HANDLE 6
#define ERROR_NOT_ENOUGH_MEMORY 8
#define ERROR_OUTOFMEMORY 14
#define ERROR_WRITE_FAULT 29
#define ERROR_NOT_SUPPORTED 50
#define ERROR_FILE_EXISTS 80
#define ERROR_INVALID_PARAMETER 87
#define ERROR_DISK_FULL 112
#define ERROR_INSUFFICIENT_BUFFER 122
#define ERROR_BUSY 170
#define ERROR_ALREADY_EXISTS 183
#define ERROR_DELETE_PENDING 303
#define ERROR_IO_PENDING 997
#define ERROR_SERVICE_DEPENDENCY_FAIL 1068
#define ERROR_NO_UNICODE_TRANSLATION 1113
#define ERROR_IO_DEVICE 1117
#define ERROR_NOT_FOUND 1168
#define ERROR_CANCELLED 1223
#define ERROR_TIMEOUT 1460
#define ERROR_FILE_CORRUPT 1392

#define WSAEFAULT 10014
#define WSAEINVAL 10022
#define WSAEAFNOSUPPORT 10047
#define WSAEADDRINUSE 10048
#define WSAEADDRNOTAVAIL 10049
#define WSAENETDOWN 10050
#define WSAENETUNREACH 10051
#define WSAECONNABORTED 10053
#define WSAECONNRESET 10054
#define WSAETIMEDOUT 10060
#define WSAECONNREFUSED 10061
#define WSAEHOSTUNREACH 10065
#define WSA_E_NO_MORE 10110

/* ---- cryptography ----------------------------------------------------------------------- */

#define NTE_BAD_UID ((HRESULT)0x80090001u)
#define NTE_BAD_KEY ((HRESULT)0x80090003u)
#define NTE_BAD_DATA ((HRESULT)0x80090005u)
#define NTE_BAD_SIGNATURE ((HRESULT)0x80090006u)
#define NTE_NO_KEY ((HRESULT)0x8009000Du)
#define NTE_NO_MEMORY ((HRESULT)0x8009000Eu)
#define NTE_EXISTS ((HRESULT)0x8009000Fu)
#define NTE_PERM ((HRESULT)0x80090010u)
#define NTE_NOT_FOUND ((HRESULT)0x80090011u)
#define NTE_BAD_KEYSET ((HRESULT)0x80090016u)
#define NTE_KEYSET_NOT_DEF ((HRESULT)0x80090019u)
#define NTE_KEYSET_ENTRY_BAD ((HRESULT)0x8009001Au)
#define NTE_FAIL ((HRESULT)0x80090020u)
#define CRYPT_E_MSG_ERROR ((HRESULT)0x80091001u)
#define CRYPT_E_HASH_VALUE ((HRESULT)0x80091007u)
#define CRYPT_E_BAD_ENCODE ((HRESULT)0x80092002u)
#define CRYPT_E_NOT_FOUND ((HRESULT)0x80092004u)
#define CRYPT_E_EXISTS ((HRESULT)0x80092005u)
#define CRYPT_E_SELF_SIGNED ((HRESULT)0x80092007u)
#define CRYPT_E_NO_MATCH ((HRESULT)0x80092009u)
#define CRYPT_E_NO_SIGNER ((HRESULT)0x8009200Eu)
#define CRYPT_E_ASN1_ERROR ((HRESULT)0x80093100u)
#define CRYPT_E_ASN1_EOD ((HRESULT)0x80093102u)
#define CRYPT_E_ASN1_BADTAG ((HRESULT)0x8009310Bu)
#define TRUST_E_CERT_SIGNATURE ((HRESULT)0x80096004u)
#define CERT_E_EXPIRED ((HRESULT)0x800B0101u)
#define CERT_E_VALIDITYPERIODNESTING ((HRESULT)0x800B0102u)
#define CERT_E_UNTRUSTEDROOT ((HRESULT)0x800B0109u)
#define CERT_E_CHAINING ((HRESULT)0x800B010Au)

/* ---- peer-to-peer (winerror.h of the Windows SDK) --------------------------------------- */

#define PEER_S_GRAPH_DATA_CREATED MAKE_HRESULT(SEVERITY_SUCCESS, FACILITY_P2P, 0x0001)
#define PEER_S_NO_EVENT_DATA MAKE_HRESULT(SEVERITY_SUCCESS, FACILITY_P2P, 0x0002)
#define PEER_S_NO_CONNECTIVITY MAKE_HRESULT(SEVERITY_SUCCESS, FACILITY_P2P, 0x0005)
#define PEER_S_ALREADY_A_MEMBER MAKE_HRESULT(SEVERITY_SUCCESS, FACILITY_P2P, 0x0006)
#define PEER_S_ALREADY_CONNECTED MAKE_HRESULT(SEVERITY_SUCCESS, FACILITY_P2P, 0x2000)
#define PEER_S_SUBSCRIPTION_EXISTS MAKE_HRESULT(SEVERITY_SUCCESS, FACILITY_P2P, 0x6000)

#define PEER_E_IPV6_NOT_INSTALLED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0001)
#define PEER_E_NOT_INITIALIZED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0002)
#define PEER_E_CANNOT_START_SERVICE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0003)
#define PEER_E_NOT_LICENSED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0004)
#define PEER_E_INVALID_GRAPH MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0010)
#define PEER_E_DBNAME_CHANGED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0011)
#define PEER_E_DUPLICATE_GRAPH MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0012)
#define PEER_E_GRAPH_NOT_READY MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0013)
#define PEER_E_GRAPH_SHUTTING_DOWN MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0014)
#define PEER_E_GRAPH_IN_USE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0015)
#define PEER_E_INVALID_DATABASE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0016)
#define PEER_E_TOO_MANY_ATTRIBUTES MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0017)
#define PEER_E_CONNECTION_NOT_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0103)
#define PEER_E_CONNECT_SELF MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0106)
#define PEER_E_ALREADY_LISTENING MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0107)
#define PEER_E_NODE_NOT_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0108)
#define PEER_E_CONNECTION_FAILED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0109)
#define PEER_E_CONNECTION_NOT_AUTHENTICATED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x010A)
#define PEER_E_CONNECTION_REFUSED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x010B)
#define PEER_E_CLASSIFIER_TOO_LONG MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0201)
#define PEER_E_TOO_MANY_IDENTITIES MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0202)
#define PEER_E_NO_KEY_ACCESS MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0203)
#define PEER_E_GROUPS_EXIST MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0204)
#define PEER_E_RECORD_NOT_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0301)
#define PEER_E_DATABASE_ACCESSDENIED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0302)
#define PEER_E_DBINITIALIZATION_FAILED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0303)
#define PEER_E_MAX_RECORD_SIZE_EXCEEDED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0304)
#define PEER_E_DATABASE_ALREADY_PRESENT MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0305)
#define PEER_E_DATABASE_NOT_PRESENT MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0306)
#define PEER_E_IDENTITY_NOT_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0401)
#define PEER_E_EVENT_HANDLE_NOT_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0501)
#define PEER_E_INVALID_SEARCH MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0601)
#define PEER_E_INVALID_ATTRIBUTES MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0602)
#define PEER_E_INVITATION_NOT_TRUSTED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0701)
#define PEER_E_CHAIN_TOO_LONG MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0703)
#define PEER_E_INVALID_TIME_PERIOD MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0705)
#define PEER_E_CIRCULAR_CHAIN_DETECTED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0706)
#define PEER_E_CERT_STORE_CORRUPTED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x0801)
#define PEER_E_NO_CLOUD MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x1001)
#define PEER_E_CLOUD_NAME_AMBIGUOUS MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x1005)
#define PEER_E_INVALID_RECORD MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2010)
#define PEER_E_NOT_AUTHORIZED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2020)
#define PEER_E_PASSWORD_DOES_NOT_MEET_POLICY MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2021)
#define PEER_E_DEFERRED_VALIDATION MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2030)
#define PEER_E_INVALID_GROUP_PROPERTIES MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2040)
#define PEER_E_INVALID_PEER_NAME MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2050)
#define PEER_E_INVALID_CLASSIFIER MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2060)
#define PEER_E_INVALID_FRIENDLY_NAME MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2070)
#define PEER_E_INVALID_ROLE_PROPERTY MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2071)
#define PEER_E_INVALID_CLASSIFIER_PROPERTY MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2072)
#define PEER_E_INVALID_RECORD_EXPIRATION MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2080)
#define PEER_E_INVALID_CREDENTIAL_INFO MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2081)
#define PEER_E_INVALID_CREDENTIAL MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2082)
#define PEER_E_INVALID_RECORD_SIZE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2083)
#define PEER_E_UNSUPPORTED_VERSION MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2090)
#define PEER_E_GROUP_NOT_READY MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2091)
#define PEER_E_GROUP_IN_USE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2092)
#define PEER_E_INVALID_GROUP MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2093)
#define PEER_E_NO_MEMBERS_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2094)
#define PEER_E_NO_MEMBER_CONNECTIONS MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2095)
#define PEER_E_UNABLE_TO_LISTEN MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x2096)
#define PEER_E_IDENTITY_DELETED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x20A0)
#define PEER_E_SERVICE_NOT_AVAILABLE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x20A1)
#define PEER_E_CANNOT_CONVERT_PEER_NAME MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x4001)
#define PEER_E_INVALID_PEER_HOST_NAME MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x4002)
#define PEER_E_NO_MORE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x4003)
#define PEER_E_PNRP_DUPLICATE_PEER_NAME MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x4005)
#define PEER_E_CONTACT_NOT_FOUND MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x6001)
#define PEER_E_INVITE_CANCELLED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7000)
#define PEER_E_INVITE_RESPONSE_NOT_AVAILABLE MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7001)
#define PEER_E_NOT_SIGNED_IN MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7003)
#define PEER_E_PRIVACY_DECLINED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7004)
#define PEER_E_TIMEOUT MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7005)
#define PEER_E_INVALID_ADDRESS MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7007)
#define PEER_E_FW_EXCEPTION_DISABLED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7008)
#define PEER_E_FW_BLOCKED_BY_POLICY MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x7009)
#define PEER_E_FW_BLOCKED_BY_SHIELDS_UP MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x700A)
#define PEER_E_FW_DECLINED MAKE_HRESULT(SEVERITY_ERROR, FACILITY_P2P, 0x700B)

/* ---- event objects, waits, last error --------------------------------------------------- */

#define INFINITE 0xFFFFFFFFu
#define INVALID_HANDLE_VALUE ((HANDLE)(LONG_PTR)-1)
#define MAXIMUM_WAIT_OBJECTS 64
#define WAIT_OBJECT_0 0x00000000u
#define WAIT_ABANDONED_0 0x00000080u
#define WAIT_TIMEOUT 0x00000102u /* as in Windows' headers it is also the code 258 */
#define WAIT_FAILED 0xFFFFFFFFu

#define WT_EXECUTEDEFAULT 0x00000000u
#define WT_EXECUTEINIOTHREAD 0x00000001u
#define WT_EXECUTEINUITHREAD 0x00000002u
#define WT_EXECUTEINWAITTHREAD 0x00000004u
#define WT_EXECUTEONLYONCE 0x00000008u
#define WT_EXECUTEINTIMERTHREAD 0x00000020u
#define WT_EXECUTELONGFUNCTION 0x00000010u
#define WT_EXECUTEINPERSISTENTTHREAD 0x00000080u
#define WT_TRANSFER_IMPERSONATION 0x00000100u

typedef VOID(CALLBACK *WAITORTIMERCALLBACK)(PVOID lpParameter, BOOLEAN TimerOrWaitFired);

/*
 * Make an event object, to be given back with CloseHandle.
 *
 * lpEventAttributes  ignored
 * bManualReset       TRUE: stays signalled until ResetEvent; FALSE: one wait takes the signal
 * lpName             NULL: named events are not supported
 * Returns  the handle, last error ERROR_SUCCESS; NULL with the last error
 *          ERROR_NOT_SUPPORTED        lpName
 *          ERROR_TOO_MANY_OPEN_FILES  each event has a descriptor (PeerhubEventDescriptor)
 *          ERROR_NOT_ENOUGH_MEMORY
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API HANDLE WINAPI CreateEventW(LPSECURITY_ATTRIBUTES lpEventAttributes,
	BOOL bManualReset, BOOL bInitialState, PCWSTR lpName);

/*
 * Signal an event. If threads or registered waits are waiting they are released by this call: all of
 * them (manual-reset) or the one that waits longest (auto-reset). Otherwise the event stays signalled;
 * signalling it again changes nothing. ResetEvent takes the signal away.
 *
 * Returns  TRUE; FALSE with ERROR_INVALID_HANDLE
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API BOOL WINAPI SetEvent(HANDLE hEvent);
PEERHUB_P2P_API BOOL WINAPI ResetEvent(HANDLE hEvent);

/*
 * Wait until an event, any of several or all of several are signalled, and take the signals of
 * auto-reset events; all of several are taken together or not at all.
 *
 * nCount          1..MAXIMUM_WAIT_OBJECTS
 * dwMilliseconds  0: only look; INFINITE: for ever. Never returns early.
 * Returns  WAIT_OBJECT_0 plus the index of the event (the lowest, of several signalled; 0 with
 *          bWaitAll); WAIT_TIMEOUT; WAIT_FAILED with the last error
 *          ERROR_INVALID_HANDLE     one is not an event object: nothing is taken
 *          ERROR_INVALID_PARAMETER  nCount, lpHandles NULL, bWaitAll with an event twice
 *          ERROR_NOT_ENOUGH_MEMORY
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API DWORD WINAPI WaitForSingleObject(HANDLE hHandle, DWORD dwMilliseconds);
PEERHUB_P2P_API DWORD WINAPI WaitForMultipleObjects(
	DWORD nCount, const HANDLE *lpHandles, BOOL bWaitAll, DWORD dwMilliseconds);

/*
 * End the handle of an event object. Threads that wait on it wait on.
 *
 * Returns  TRUE; FALSE with ERROR_INVALID_HANDLE (also for everything that is not an event)
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API BOOL WINAPI CloseHandle(HANDLE hObject);

/*
 * Call a function on a pool thread each time an event is signalled or a time has passed.
 *
 * phNewWaitObject  out: the wait, written before the first callback; for UnregisterWaitEx, not for
 *                  CloseHandle
 * Callback         gets Context, and TRUE when the time has passed. Several calls of it may run at
 *                  once, on up to 32 threads for the whole process; further ones queue.
 * dwMilliseconds   INFINITE: only signals count
 * dwFlags          WT_EXECUTEONLYONCE: one call and no more. A manual-reset event needs it, for while
 *                  it stays signalled it calls without end. WT_EXECUTEINWAITTHREAD: never two calls
 *                  of this wait at once. Other flags change nothing.
 * Returns  TRUE; FALSE with the last error, *phNewWaitObject NULL
 *          ERROR_INVALID_HANDLE     hObject is not an event object
 *          ERROR_INVALID_PARAMETER  phNewWaitObject or Callback NULL
 *          ERROR_NOT_ENOUGH_MEMORY  also: no thread, or 16,384 waits are registered
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API BOOL WINAPI RegisterWaitForSingleObject(PHANDLE phNewWaitObject, HANDLE hObject,
	WAITORTIMERCALLBACK Callback, PVOID Context, ULONG dwMilliseconds, ULONG dwFlags);

/*
 * End a wait: no call begins after this. UnregisterWait(wait) is UnregisterWaitEx(wait, NULL).
 *
 * CompletionEvent  NULL: do not wait for calls that run now. INVALID_HANDLE_VALUE: wait for them,
 *                  except inside a call of this very wait. An event object: it is signalled when
 *                  the last of them has returned.
 * Returns  TRUE    no call runs any more
 *          FALSE with ERROR_IO_PENDING      ended, and a call still runs; not to be repeated
 *          FALSE with ERROR_INVALID_HANDLE  not a wait, or CompletionEvent is not an event: no change
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API BOOL WINAPI UnregisterWait(HANDLE WaitHandle);
PEERHUB_P2P_API BOOL WINAPI UnregisterWaitEx(HANDLE WaitHandle, HANDLE CompletionEvent);

/* The last error of this thread; successful calls leave it alone, except CreateEventW. */
PEERHUB_P2P_API DWORD WINAPI GetLastError(void);
PEERHUB_P2P_API VOID WINAPI SetLastError(DWORD dwErrCode);

#ifndef CreateEvent
#define CreateEvent CreateEventW
#endif

#ifdef __cplusplus
}
#endif

/* In C these take pointers, in C++ references, as the Windows headers do. */
#ifdef __cplusplus
typedef const GUID &REFGUID;
static inline int IsEqualGUID(REFGUID left, REFGUID right)
{
	return memcmp(&left, &right, sizeof(GUID)) == 0;
}
static inline bool operator==(REFGUID left, REFGUID right)
{
	return memcmp(&left, &right, sizeof(GUID)) == 0;
}
static inline bool operator!=(REFGUID left, REFGUID right)
{
	return memcmp(&left, &right, sizeof(GUID)) != 0;
}
#else
typedef const GUID *REFGUID;
#define IsEqualGUID(left, right) (memcmp((left), (right), sizeof(GUID)) == 0)
#endif

#endif /* PEERHUB_WIN32_H */

/*
 * Outside the guard, so that INITGUID counts at each inclusion. Without INITGUID a GUID is only
 * declared, and the library has the storage of those in p2p.h. With INITGUID each file that includes
 * the header carries a weak definition, so that several files of one program may do so.
 */
#ifdef DEFINE_GUID
#undef DEFINE_GUID
#endif
#ifdef __cplusplus
#define PEERHUB_GUID_LINKAGE extern "C"
#else
#define PEERHUB_GUID_LINKAGE extern
#endif
#ifdef INITGUID
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8)         \
	PEERHUB_GUID_LINKAGE const GUID name;                                \
	extern const GUID name __attribute__((weak, visibility("default"))); \
	const GUID name = {l, w1, w2, {b1, b2, b3, b4, b5, b6, b7, b8}}
#else
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8) \
	PEERHUB_GUID_LINKAGE PEERHUB_P2P_API const GUID name
#endif
