/* host-service/rollout/rollout_state.c - a rollout's next step. */
#include "host-service/rollout/rollout_state.h"

#include <string.h>

#define HOW_ON                                                                                               \
        "'moult rollout resume' goes on, 'moult rollout abort' ends it, with --rollback back on the old "    \
        "release"

static struct rollout_step stop(char *text)
{
        return (struct rollout_step){.action = ROLLOUT_DO_STOP, .text = text};
}

static struct rollout_step step(RolloutDo action)
{
        return (struct rollout_step){.action = action};
}

static struct rollout_step end(RolloutState state)
{
        return (struct rollout_step){.action = ROLLOUT_DO_END, .state = state};
}

static struct rollout_step open_wave(int wave)
{
        return (struct rollout_step){.action = ROLLOUT_DO_OPEN, .wave = wave};
}

static gboolean too_many_failed(const struct rollout_facts *f)
{
        const RolloutRecord *r = f->record;

        return rollout_failures(&f->all) > r->accepted &&
               rollout_failures(&f->all) - r->accepted > r->max_failures;
}

static struct rollout_step next_running(const struct rollout_facts *f)
{
        const RolloutRecord *r = f->record;

        if (too_many_failed(f))
                return stop(g_strdup_printf("%u of %u VMs failed%s, and at most %u may. " HOW_ON,
                                            rollout_failures(&f->all) - r->accepted, f->all.total,
                                            r->accepted ? " since it was resumed" : "", r->max_failures));
        if (f->wave.waiting > 0)
                return open_wave(r->wave); /* it was stopped in the middle of it */
        if (f->wave.running > 0)
                return step(ROLLOUT_DO_NOTHING);
        if (r->wave == 0 && r->canary && f->wave.done == 0 && f->wave.unreachable > 0)
                return stop(g_strdup_printf("none of the canaries was upgraded: %u could not be reached, so "
                                            "nothing is known of the release. " HOW_ON,
                                            f->wave.unreachable));
        if (r->wave + 1 >= (int)r->waves)
                return end(ROLLOUT_DONE);
        return r->wave >= 0 && r->pause_ms > 0 ? step(ROLLOUT_DO_PAUSE) : open_wave(r->wave + 1);
}

static struct rollout_step next_aborting(const struct rollout_facts *f)
{
        if (f->all.running + f->all.waiting > 0)
                return step(ROLLOUT_DO_NOTHING);
        return f->record->take_back ? step(ROLLOUT_DO_TAKE_BACK) : end(ROLLOUT_ABORTED);
}

/* A clock that was set back would make it longer than it was to be: then it begins once more. */
static struct rollout_step next_pausing(const struct rollout_facts *f)
{
        const RolloutRecord *r = f->record;

        if (f->now_us >= r->next_us)
                return open_wave(r->wave + 1);
        return step(r->next_us - f->now_us <= r->pause_ms * 1000 ? ROLLOUT_DO_WAIT : ROLLOUT_DO_PAUSE);
}

struct rollout_step rollout_next(const struct rollout_facts *f)
{
        const RolloutRecord *r = f->record;

        switch (r->state) {
        case ROLLOUT_RUNNING:
                return next_running(f);
        case ROLLOUT_PAUSING:
                return next_pausing(f);
        case ROLLOUT_STOPPED:
                return step(f->all.running > 0 ? ROLLOUT_DO_HOLD_BACK : ROLLOUT_DO_NOTHING);
        case ROLLOUT_ABORTING:
                return next_aborting(f);
        case ROLLOUT_ROLLING_BACK:
                return f->rollback_unfinished > 0 ? step(ROLLOUT_DO_NOTHING) : end(ROLLOUT_ROLLED_BACK);
        case ROLLOUT_DONE:
        case ROLLOUT_ABORTED:
        case ROLLOUT_ROLLED_BACK:
        case ROLLOUT_STATE_MAX:
                break;
        }
        return step(ROLLOUT_DO_NOTHING);
}

guint rollout_wave_of(guint i, guint total, guint canary, guint batch)
{
        guint first = canary > 0 ? 1 : 0;

        canary = MIN(canary, total);
        if (i < canary)
                return 0;
        return first + (batch > 0 ? (i - canary) / batch : 0);
}

gboolean rollout_batch_parse(const char *text, guint total, guint *ret)
{
        gboolean percent = g_str_has_suffix(text, "%");
        g_autofree char *digits = g_strndup(text, strlen(text) - (percent ? 1 : 0));
        guint64 n;

        if (!g_ascii_string_to_unsigned(digits, 10, 1, percent ? 100 : G_MAXINT32, &n, NULL))
                return FALSE;
        *ret = percent ? MAX(1, (guint)((n * total + 99) / 100)) : (guint)n;
        return TRUE;
}
