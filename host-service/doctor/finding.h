/* host-service/doctor/finding.h - what one check found. Ids of checks are stable, as those of events are. */
#pragma once

#include <glib.h>

typedef enum { DOCTOR_OK, DOCTOR_NOTICE, DOCTOR_WARNING, DOCTOR_ERROR, DOCTOR_SEVERITY_MAX } DoctorSeverity;
const char *doctor_severity_name(DoctorSeverity s);

typedef struct {
        const char *id;
        DoctorSeverity severity;
        char *found;        /* owned; for people; empty if all is well */
        const char *action; /* static */
} DoctorFinding;

/* Of DoctorFinding, owned. */
GPtrArray *doctor_findings_new(void);
/* Takes @found; @id and @action are static. */
void doctor_add(GPtrArray *list, const char *id, DoctorSeverity severity, GString *found, const char *action);
/* "a, b, c": at most ten of the strings, and how many more there are. */
void doctor_append_names(GString *found, const GPtrArray *names);
