/* Our one form of an address (IPv6, IPv4 mapped) and the kernel's two. Pure, any thread. */
#ifndef PEERHUB_ENGINE_ADDRESS_H
#define PEERHUB_ENGINE_ADDRESS_H

#include "peerhub.h"

#include <stdbool.h>
#include <sys/socket.h>

/* A mapped IPv4 address becomes AF_INET. Returns the bytes used of `out`. */
socklen_t address_to_socket(const ph_address *address, struct sockaddr_storage *out);
/* False (and `out` untouched) for any other family. */
bool address_from_socket(const struct sockaddr_storage *from, ph_address *out);

#endif
