/* host-service/template/fitting.h - what has to be done in a template's files so that its clones are guests
 * of moult: pure. What is there is asked for through a view, so that tests need no image.
 *
 * What is as it should be is told and not touched, so a second run does nothing. What an administrator may
 * have changed (settings, masked units) is never overwritten but for what was asked for. */
#pragma once

#include "host-service/template/payload.h"

enum template_init {
        TEMPLATE_SYSTEMD,
        TEMPLATE_SYSV,    /* /etc/rcS.d, with update-rc.d */
        TEMPLATE_INITTAB, /* busybox: /etc/inittab says all */
        TEMPLATE_OTHER,   /* the files are put there; who starts them is told to be open */
};

/* The image's files. */
struct template_view {
        gboolean (*exists)(const char *path, gpointer user);
        GBytes *(*read)(const char *path, gpointer user); /* NULL: no regular file there */
        char *(*link)(const char *path, gpointer user);   /* NULL: no symbolic link there */
        gpointer user;
};

struct template_key {
        char *name; /* "release.pub" */
        GBytes *data;
};

struct template_settings {
        const char *host;      /* "ADDRESS:PORT", or NULL: as it is */
        const char *host_key;  /* fingerprint of the host's network key in hexadecimal, or NULL */
        const GPtrArray *keys; /* struct template_key *: whose releases the clones take */
};

enum fitting_kind { FITTING_WRITE, FITTING_LINK, FITTING_DIRECTORY, FITTING_REMOVE, FITTING_RUN };
enum fitting_state {
        FITTING_NEW,
        FITTING_CHANGED, /* something else is there, and is replaced */
        FITTING_SAME,    /* nothing to do */
        FITTING_KEPT,    /* something else is there, and stays: see why */
};

struct fitting_item {
        enum fitting_kind kind;
        enum fitting_state state;
        char *path;
        guint mode;
        GBytes *data; /* WRITE */
        char *link;   /* LINK */
        GStrv argv;   /* RUN, in the image */
        char *why;    /* for people; may be NULL */
};

enum template_init fitting_init(const struct template_view *view);
const char *fitting_init_name(enum template_init init);

/* In the order in which it is to be done; of struct fitting_item *, freed with g_ptr_array_unref(). REFUSED:
 * another key is there under the name of one of these. */
GPtrArray *fitting_plan(const GPtrArray *payload, enum template_init init,
                        const struct template_settings *settings, const struct template_view *view,
                        GError **error);
/* Something is to be done. */
gboolean fitting_changes(const GPtrArray *items);
/* The settings @text with the host's address set; comments and all else stay. MALFORMED. */
char *fitting_set_host(const char *text, const char *host, GError **error);
