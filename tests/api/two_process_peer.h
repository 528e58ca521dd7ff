/*
 * two_process_peer.h: the second process of two_process_test.c, and the first one's line to it. The
 * peer answers each line "verb number" with six numbers; which, its verb says.
 */
#ifndef PEERHUB_TESTS_TWO_PROCESS_PEER_H
#define PEERHUB_TESTS_TWO_PROCESS_PEER_H

#include "tests/api/two_process.h"

/* ---- the peer ----------------------------------------------------------------------------- */

static void *closes(void *unused)
{
	intptr_t done = 0;

	(void)unused;
	for (int i = 0; i < AUDIT_COUNT; i++) {
		pthread_mutex_lock(&events.lock);
		struct audit audit = events.audits[i];
		pthread_mutex_unlock(&events.lock);
		if (audit.id && !audit.neighbor && audit.connected)
			done += PeerGroupCloseDirectConnection(group, audit.id) == S_OK;
	}
	return (void *)done;
}

static long long close_all(void)
{
	pthread_t threads[3];
	void *result;
	long long done = 0;

	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, closes, NULL);
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], &result);
		done += (intptr_t)result;
	}
	return done;
}

static long long open_many(long count)
{
	PEER_ADDRESS address = address_of(other_identity);
	ULONGLONG id;
	long long done = 0;

	for (long i = 0; i < count; i++)
		done += PeerGroupOpenDirectConnection(group, other_identity, &address, &id) == S_OK;
	return done;
}

static int peer_main(bool again)
{
	PEER_VERSION_DATA version;
	char line[200], verb[20];
	long number;

	if (FAILED(PeerGroupStartup(PEER_GROUP_VERSION, &version)))
		fatal("PeerGroupStartup", 0);
	if (again) {
		if (FAILED(PeerIdentityGetDefault(&own_identity)))
			fatal("PeerIdentityGetDefault", 0);
	} else if (FAILED(PeerIdentityCreate(u"peer", u"Peer", 0, &own_identity))) {
		fatal("PeerIdentityCreate", 0);
	}
	PWSTR xml;
	if (FAILED(PeerIdentityGetXML(own_identity, &xml)))
		fatal("PeerIdentityGetXML", 0);
	text_save("peer.identity", own_identity);
	text_save("peer.xml", xml);
	PeerFreeData(xml);
	text_copy(other_identity, text_load("creator.identity"));
	events_start();
	printf("0 0 0 0 0 0\n");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		long long answer[6] = {0};
		number = 0;
		if (sscanf(line, "%19s %ld", verb, &number) < 1)
			fatal("peer command", 0);
		if (!strcmp(verb, "join")) {
			answer[0] = PeerGroupJoin(NULL, text_load("invitation"), NULL, &group);
			if (SUCCEEDED((HRESULT)answer[0]))
				answer[1] = events_register();
		} else if (!strcmp(verb, "joinother")) {
			answer[0] = PeerGroupJoin(NULL, text_load("other"), NULL, &group);
		} else if (!strcmp(verb, "reopen")) {
			answer[0] = PeerGroupOpen(NULL, text_load("group"), NULL, &group);
			if (SUCCEEDED((HRESULT)answer[0]))
				answer[1] = events_register();
		} else if (!strcmp(verb, "call")) {
			PEER_ADDRESS address = address_make((int)number);
			answer[0] = PeerGroupConnectByAddress(group, 1, &address);
		} else if (!strcmp(verb, "connect")) {
			answer[0] = PeerGroupConnect(group);
		} else if (!strcmp(verb, "counts")) {
			pthread_mutex_lock(&events.lock);
			answer[0] = events.connected;
			answer[1] = events.disconnected;
			answer[2] = events.failed;
			answer[3] = events.messages;
			answer[4] = events.bytes;
			answer[5] = events.violations;
			pthread_mutex_unlock(&events.lock);
		} else if (!strcmp(verb, "register")) {
			answer[0] = number ? events_register() : events_unregister();
		} else if (!strcmp(verb, "pause")) {
			pthread_mutex_lock(&events.lock);
			events.paused = number;
			pthread_mutex_unlock(&events.lock);
			drain();
		} else if (!strcmp(verb, "member")) {
			answer[0] = await(
				PEER_GROUP_EVENT_MEMBER_CHANGED, PEER_MEMBER_CONNECTED, 0, NULL);
		} else if (!strcmp(verb, "neighbor")) {
			answer[0] = await(NEIGHBOR, PEER_CONNECTED, 0, NULL);
		} else if (!strcmp(verb, "online")) {
			answer[0] = await(PEER_GROUP_EVENT_STATUS_CHANGED, 3, 0, NULL);
		} else if (!strcmp(verb, "failed")) {
			struct seen seen = {0};
			answer[0] = await(PEER_GROUP_EVENT_CONNECTION_FAILED, 0, 0, &seen);
			answer[1] = seen.reason;
		} else if (!strcmp(verb, "status")) {
			DWORD status = 0;
			answer[0] = PeerGroupGetStatus(group, &status);
			answer[1] = status;
		} else if (!strcmp(verb, "properties")) {
			PEER_GROUP_PROPERTIES *properties;
			answer[0] = PeerGroupGetProperties(group, &properties);
			if (answer[0] == S_OK)
				answer[1] = text_equal(properties->pwzFriendlyName, u"Chat");
			answer[2] = PeerGroupSetProperties(group, NULL);
			answer[3] =
				answer[0] == S_OK ? PeerGroupSetProperties(group, properties) : 0;
			PeerFreeData(properties);
		} else if (!strcmp(verb, "open")) {
			answer[0] = open_many(number);
		} else if (!strcmp(verb, "closeall")) {
			answer[0] = close_all();
		} else if (!strcmp(verb, "groupclose")) {
			answer[0] = events_unregister();
			answer[1] = PeerGroupClose(group);
			answer[2] = PeerGroupClose(group);
		} else if (!strcmp(verb, "delete")) {
			answer[0] = PeerGroupDelete(NULL, text_load("group"));
			PEER_GROUP_EVENT_DATA *data = (PEER_GROUP_EVENT_DATA *)1;
			answer[1] = PeerGroupGetEventData(registration, &data);
			answer[2] = data == NULL;
			registration = NULL;
			answer[3] = PeerGroupClose(group);
		} else if (!strcmp(verb, "quit")) {
			if (!UnregisterWaitEx(wait_handle, INVALID_HANDLE_VALUE) ||
				!CloseHandle(event))
				fatal("UnregisterWaitEx", GetLastError());
			PeerFreeData(own_identity);
			answer[0] = PeerGroupShutdown();
			answer[1] = PeerGroupShutdown();
		} else {
			fatal("peer command unknown", 0);
		}
		printf("%lld %lld %lld %lld %lld %lld\n", answer[0], answer[1], answer[2],
			answer[3], answer[4], answer[5]);
		fflush(stdout);
	}
	return events.violations != 0;
}

static pid_t peer_pid;
static FILE *peer_in;
static FILE *peer_out;

static const long long *peer_answer(void)
{
	static long long answer[6];

	if (fscanf(peer_out, "%lld %lld %lld %lld %lld %lld", &answer[0], &answer[1], &answer[2],
		    &answer[3], &answer[4], &answer[5]) != 6)
		fatal("the peer ended", 0);
	return answer;
}

static const long long *ask(const char *verb, long number)
{
	fprintf(peer_in, "%s %ld\n", verb, number);
	fflush(peer_in);
	return peer_answer();
}

static void peer_start(bool again)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		fatal("pipe", 0);
	peer_pid = fork();
	if (peer_pid < 0)
		fatal("fork", 0);
	if (peer_pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		setenv("PEERHUB_HOME", in_directory("peer"), 1);
		execl("/proc/self/exe", "two_process_test", again ? "--peer-again" : "--peer",
			directory, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	peer_in = fdopen(to[1], "w");
	peer_out = fdopen(from[0], "r");
	peer_answer();
	if (!again)
		text_copy(other_identity, text_load("peer.identity"));
}

static void peer_join(bool killed)
{
	int status;

	fclose(peer_in);
	fclose(peer_out);
	if (waitpid(peer_pid, &status, 0) != peer_pid)
		fatal("waitpid", 0);
	if (killed)
		CHECK(WIFSIGNALED(status));
	else
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Ask until a count of the peer has a value; the number of questions is bounded. */
static bool peer_count(int which, long long wanted)
{
	for (int i = 0; i < WAIT_SECONDS * 100; i++) {
		long long have = ask("counts", 0)[which];
		if (have == wanted)
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	fprintf(stderr, "peer count %d is %lld, not %lld\n", which, ask("counts", 0)[which],
		wanted);
	return false;
}

#endif
