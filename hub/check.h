/*
 * check.h: assert for this folder. Ours stay on in release builds, whatever NDEBUG says: they are
 * cheap here and a wrong program should stop where it is wrong.
 */
#ifndef PEERHUB_HUB_CHECK_H
#define PEERHUB_HUB_CHECK_H

#undef NDEBUG
#include <assert.h>

#endif
