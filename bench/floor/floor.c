/*
 * The floor: what a server costs that does nothing but receive and send, by recvmmsg and sendmmsg.
 *
 *   floor answer  ADDRESS PORT             every request comes back as its own 200
 *   floor forward ADDRESS PORT CALLER_PORT PHONE PHONE_PORT
 *                                          what comes from port CALLER_PORT goes to the phone, all else to
 *                                          the caller; an INVITE also gets a 100: the 13 datagrams of a call
 *
 * It parses nothing. `cargo xtask bench sip` compiles it and gives it the same load as the servers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 64
#define ROOM 4096

static char in[BATCH][ROOM], out[2 * BATCH][ROOM];
static struct sockaddr_in from[BATCH], to[2 * BATCH];
static struct iovec in_vector[BATCH], out_vector[2 * BATCH];
static struct mmsghdr in_header[BATCH], out_header[2 * BATCH];

static struct sockaddr_in address(const char *host, const char *port)
{
    struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, host, &made.sin_addr) != 1) {
        fprintf(stderr, "no address: %s\n", host);
        exit(2);
    }
    return made;
}

/* Puts `line` in the place of the first line. */
static size_t with_line(char *made, const char *line, const char *message, size_t length)
{
    const char *end = memchr(message, '\n', length);
    size_t first = end ? (size_t)(end - message) + 1 : 0, own = strlen(line);
    if (own + length - first > ROOM)
        return 0;
    memcpy(made, line, own);
    memcpy(made + own, message + first, length - first);
    return own + length - first;
}

int main(int count, char **words)
{
    int forwards = count == 7 && !strcmp(words[1], "forward");
    if (!forwards && !(count == 4 && !strcmp(words[1], "answer"))) {
        fprintf(stderr, "floor answer ADDRESS PORT | floor forward ADDRESS PORT CALLER_PORT PHONE PHONE_PORT\n");
        return 2;
    }
    struct sockaddr_in here = address(words[2], words[3]);
    struct sockaddr_in phone = here, caller = here;
    unsigned caller_port = 0;
    if (forwards) {
        phone = address(words[5], words[6]);
        caller_port = htons(atoi(words[4]));
    }
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0), room = 8 << 20;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&here, sizeof here)) {
        perror("floor");
        return 1;
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            in_vector[i] = (struct iovec){in[i], ROOM};
            in_header[i].msg_hdr = (struct msghdr){
                .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &in_vector[i], .msg_iovlen = 1};
        }
        int received = recvmmsg(descriptor, in_header, BATCH, MSG_WAITFORONE, NULL);
        if (received < 0)
            continue;
        int sends = 0;
        for (int i = 0; i < received; i++) {
            size_t length = in_header[i].msg_len;
            int comes_from_caller = from[i].sin_port == caller_port;
            if (!forwards || (comes_from_caller && length > 6 && !memcmp(in[i], "INVITE", 6))) {
                const char *line = forwards ? "SIP/2.0 100 Trying\r\n" : "SIP/2.0 200 OK\r\n";
                out_vector[sends] = (struct iovec){out[sends], with_line(out[sends], line, in[i], length)};
                to[sends++] = from[i];
            }
            if (forwards) {
                if (comes_from_caller)
                    caller = from[i];
                out_vector[sends] = (struct iovec){in[i], length};
                to[sends++] = comes_from_caller ? phone : caller;
            }
        }
        for (int i = 0; i < sends; i++)
            out_header[i].msg_hdr = (struct msghdr){
                .msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = &out_vector[i], .msg_iovlen = 1};
        for (int sent = 0; sent < sends;) {
            int now = sendmmsg(descriptor, out_header + sent, sends - sent, 0);
            sent += now > 0 ? now : 1;
        }
    }
}
