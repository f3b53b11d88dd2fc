/* host-service/release/agent_tree.h - the tree of a machine with an agent, as what differs from a tree that
 * we have.
 *
 * Theory of operation: the agent is told, range by range, what we suppose, and answers what is not so
 * (guest-agent/tree_look.h). The ranges follow from what we suppose, so a few questions are under way at a
 * time (ask_ahead.h); their answers are taken in order. A question whose answer is lost is asked again by the
 * asker, and the walk goes on where it was. Contents are fetched only of files that somebody opens, or says
 * that he will (agent_contents.h).
 *
 * The agent is not believed: paths out of the range or out of order, and files that are not what they were
 * listed as, end the walk with an error. */
#pragma once

#include "host-service/release/build_tree.h"
#include "proto/message.h"

struct agent_tree_asker {
        /* The answer to @question, of a kind that answers it; the caller frees. NULL with @error. Blocks.
         * From up to @width threads at a time. */
        Message *(*ask)(const Message *question, gpointer user, GError **error);
        /* May be NULL. @path: how far the walk is. */
        void (*progress)(const char *path, gpointer user);
        gpointer user;
        unsigned width; /* questions that may be under way; 0 or 1: one, asked by the thread of the tree */
        /* May be NULL. For one who is slow to reach, and can answer many questions at once: GBytes, packed,
         * in the order in which they are asked. The answers (GBytes, owned by the caller) come in that order,
         * each question's as many pages as it takes: the last of them, and only that, is complete. */
        GPtrArray *(*ask_all)(const GPtrArray *questions, gpointer user, GError **error);
};

struct agent_tree_options {
        const char *name;           /* of the machine, for errors */
        const PerVmList *per_vm;    /* NULL: all of it is looked at */
        const char *const *exclude; /* as in build_tree_options */
        gboolean hash;       /* read contents although size and time are the same; then @base has digests */
        gboolean names_only; /* no digests: contents are read when somebody opens them */
        gboolean owner_root; /* as in build_tree_options */
        const char *const *exclude_xattr; /* as in build_tree_options */
};

/* The whole tree: nodes that are as in @base are copies of its nodes, the same object for build_plan.h. @base
 * may be NULL: nothing is supposed. It and @asker must outlive the tree. */
BuildTree *agent_tree_read(const BuildTree *base, const struct agent_tree_asker *asker,
                           const struct agent_tree_options *options, GCancellable *cancellable,
                           GError **error);
