/* What any relay with a socket for each port costs at least: it receives each datagram and sends it on by another socket, and
 * looks at nothing.
 *
 * `relay plain|connected ADDRESS FIRST_PORT PHONES PHONES_FIRST_PORT LEGS`: leg k has the socket ADDRESS:FIRST_PORT + 2k, its
 * phone is at PHONES:PHONES_FIRST_PORT + 2k; the legs 2k and 2k + 1 are a session. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define LEGS_MAX 40000
#define READY 64
#define ROOM 2048

static int sockets[LEGS_MAX];
static struct sockaddr_in phones[LEGS_MAX];

int main(int count, char **words)
{
    if (count != 7)
        return 2;
    int is_connected = !strcmp(words[1], "connected"), legs = atoi(words[6]), poll = epoll_create1(0);
    if (legs > LEGS_MAX)
        return 2;
    for (int leg = 0; leg < legs; leg++) {
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(words[3]) + 2 * leg)};
        phones[leg] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(words[5]) + 2 * leg)};
        inet_pton(AF_INET, words[2], &here.sin_addr);
        inet_pton(AF_INET, words[4], &phones[leg].sin_addr);
        int descriptor = sockets[leg] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = leg};
        if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&here, sizeof here) ||
            (is_connected && connect(descriptor, (struct sockaddr *)&phones[leg], sizeof phones[leg])) ||
            epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event)) {
            perror("relay");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[READY];
        int events = epoll_wait(poll, ready, READY, -1);
        for (int i = 0; i < events; i++) {
            char bytes[ROOM];
            struct sockaddr_in from;
            socklen_t length = sizeof from;
            int leg = ready[i].data.u32, other = leg ^ 1;
            ssize_t got = is_connected ? recv(sockets[leg], bytes, ROOM, 0)
                                       : recvfrom(sockets[leg], bytes, ROOM, 0, (struct sockaddr *)&from, &length);
            if (got < 0)
                continue;
            /* What the kernel will not take is lost, as on a network. */
            ssize_t gone = is_connected
                               ? send(sockets[other], bytes, got, 0)
                               : sendto(sockets[other], bytes, got, 0, (struct sockaddr *)&phones[other], sizeof *phones);
            (void)gone;
        }
    }
}
