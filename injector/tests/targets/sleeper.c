/*
 * sleeper: a process without sends.
 *
 *   sleeper SECONDS [--max-seconds N]
 *
 * Prints "ready PID", sleeps (a fraction is allowed) and does nothing else; SIGTERM and
 * SIGINT end the sleep early. SIGALRM ends the program after --max-seconds (default
 * SECONDS + 60).
 *
 * Output: one line of JSON with the pid and the time slept.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(void)
{
	fprintf(stderr, "usage: sleeper SECONDS [--max-seconds N]\n");
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t))
		die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "max-seconds", required_argument, NULL, 'm' }, { 0 } };
	unsigned long max_seconds = 0;
	sigset_t wanted;
	char *end;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'm')
			usage();
		max_seconds = strtoul(optarg, &end, 10);
		if (!*optarg || *end || !max_seconds || max_seconds > UINT_MAX)
			usage();
	}
	if (argc - optind != 1)
		usage();
	double seconds = strtod(argv[optind], &end);
	if (end == argv[optind] || *end || !(seconds >= 0 && seconds <= 1e9))
		usage();
	alarm(max_seconds ? (unsigned)max_seconds : (unsigned)seconds + 60);

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT);
	if (sigprocmask(SIG_BLOCK, &wanted, NULL))
		die("sigprocmask");

	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	uint64_t start = now_ns(), until = start + (uint64_t)(seconds * 1e9);
	for (uint64_t now = start; now < until; now = now_ns()) {
		uint64_t left = until - now;
		struct timespec t = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };

		if (sigtimedwait(&wanted, NULL, &t) > 0)
			break;
		if (errno != EAGAIN && errno != EINTR)
			die("sigtimedwait");
	}
	printf("{\"program\":\"sleeper\",\"pid\":%d,\"slept_ns\":%" PRIu64 "}\n", (int)getpid(),
	       now_ns() - start);
	if (fflush(stdout))
		die("stdout");
	return 0;
}
