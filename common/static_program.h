/* common/static_program.h - the start of a program that is one static binary (docs/decisions/0012).
 *
 * Theory of operation: a static glibc still loads shared libraries for three things: name services (NSS),
 * character sets (gconv), and what a library asks for itself (providers of libcrypto, modules of GIO). Those
 * of the machine may be of another glibc, or of none, and would end the program. So each is bound to what the
 * binary has. */
#pragma once

/* Called first in main() of a static program, before libcrypto_start().
 *
 * - Host names are looked up in /etc/hosts and by DNS (/etc/resolv.conf), whatever /etc/nsswitch.conf says.
 * - libcrypto reads no openssl.cnf: a provider that it names (FIPS, PKCS#11) would be a module.
 *
 * What is left for the program: no setlocale() but to C.UTF-8 (any other character set is a module of gconv),
 * and nothing of GIO that looks for modules (proxies, GFile, GNetworkMonitor, GTlsConnection). */
void static_program_start(void);
