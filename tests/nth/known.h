/*
 * The kept list of blocks that OpenSSL itself loses when memory is short (openssl-known.txt). An entry is a
 * pair of lines:
 *
 *   failed  name < name < name      where the first allocation failed, innermost first
 *   leaked  name < name < name      where the lost block was made
 *
 * Both stacks are cut at the first function of ours, which must be named last; the names must occur in
 * the stack in this order, others may stand between them. "*" in the place of ours is any function of
 * ours, and alone any stack. Before a pair stands a
 * comment (#) that says why the loss is OpenSSL's.
 */
#ifndef PEERHUB_TESTS_NTH_KNOWN_H
#define PEERHUB_TESTS_NTH_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

/* Reads the file; ends the program when it cannot be read or an entry is wrong. */
void known_load(const char *path);
/* Texts as of inject_stack_text, library part. */
bool known_has(const char *failed, const char *leaked);

#endif
