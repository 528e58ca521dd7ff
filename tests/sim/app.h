/* The users of a run: hubs, their callbacks, threads that call at random. */
#ifndef PEERHUB_TESTS_SIM_APP_H
#define PEERHUB_TESTS_SIM_APP_H

#include "engine/hub.h"
#include "tests/sim/model.h"

#define APP_HUBS_MAX 3u
#define APP_LISTENERS_MAX 6u
#define APP_TAGS_MAX 16u
#define APP_REASON_CLOSE 1100u /* reasons of ph_close: this and the next 99 */
#define APP_REASON_WHERE 1300u /* of ph_close_where */

struct app_listener {
	int number; /* -1: none */
	uint16_t port;
	enum ph_framing framing;
	enum ph_tls tls;
};

struct app_hub {
	struct ph_hub *hub; /* NULL while it is stopped */
	uint32_t number;
	uint32_t callers; /* inside a call that names the hub: it is not stopped meanwhile */
	bool stopping;
	struct ph_options options;
	uint64_t limits_most[PH_LIMIT_COUNT]; /* the highest value of each limit so far; 0: off */
	struct app_listener listeners[APP_LISTENERS_MAX];
	uint64_t tags[APP_TAGS_MAX];
	bool ended[APP_TAGS_MAX];
	uint32_t tags_count;
};
extern struct app_hub app_hubs[APP_HUBS_MAX];
extern uint32_t app_hubs_count;

/* tls_sim.c */
void tls_sim_init(void);
struct ph_credentials *tls_sim_credentials(uint32_t name); /* borrowed */
int tls_sim_name(const struct ph_bytes *leaf); /* whose, -1 nobody's */

#endif
