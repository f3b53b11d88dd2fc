/* host-service/push/vm_notes.h - what the manager remembers of each VM while it runs: does its hypervisor
 * answer, how often has its guest asked for something. */
#pragma once

#include "host-service/guests/guests.h"

typedef struct VmNotes VmNotes;

VmNotes *vm_notes_new(const struct host_env *env, Guests *g);
/* After the guests are gone: their hypervisors answer to the notes. */
void vm_notes_free(VmNotes *n);
void vm_notes_forget(VmNotes *n, const char *vm);
/* The guest's budget for upgrade requests: a few at once, then one in some seconds. */
gboolean vm_notes_may_request(VmNotes *n, const char *vm);
/* The answer to the last question, which is at most some seconds old; asks again if it is older. FALSE also
 * if there was none yet. */
gboolean vm_notes_qmp_answers(VmNotes *n, const char *vm);
/* Asks anew, if no question is under way. @done runs exactly once, when vm_notes_qmp_answers() says what was
 * answered: not before this returns, and at the latest in vm_notes_free(). */
void vm_notes_look(VmNotes *n, const char *vm, void (*done)(gpointer user), gpointer user);
