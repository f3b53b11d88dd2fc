/* tests/sim/mutants.h - bugs that are put into the host on purpose: each must be found.
 *
 * The program is linked with --wrap for the functions that they spoil (CMakeLists.txt beside this), so the
 * host's own sources know nothing of them. Without a choice every wrapper calls what it wraps. */
#pragma once

#include <glib.h>

gboolean mutants_choose(const char *name); /* FALSE: there is none of this name */
void mutants_print(void);
