/* host-service/template/prepare.h - puts the agent into a template image, offline: looks, shows, does all of
 * it in a copy, runs the agent there once, and only then gives the copy the image's place. */
#pragma once

#include "host-service/image/image_file.h"
#include "host-service/template/fitting.h"

struct prepare_result {
        GPtrArray *items; /* struct fitting_item *: what was, or with dry_run would be, done */
        enum template_init init;
        char *product; /* "Debian GNU/Linux 12 (bookworm)"; "" */
        char *agent;   /* what the agent in the image says it is; NULL: not asked */
        gboolean changed;
};
void prepare_result_clear(struct prepare_result *r);

/* @settings are read during the call. On an error the image is as before. Blocks for seconds; without KVM for
 * half a minute and more. */
gboolean template_prepare(const struct image_name *image, const GPtrArray *payload,
                          const struct template_settings *settings, gboolean dry_run,
                          struct prepare_result *ret, GError **error);
