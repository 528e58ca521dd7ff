/*
 * commands.h: the subcommands. Each takes argc and argv from its own last word on, and returns the
 * exit code of the program (enum exit_code in say.h).
 */
#ifndef PEERHUB_HUB_COMMANDS_H
#define PEERHUB_HUB_COMMANDS_H

int id_main(int argc, char **argv);
int group_main(int argc, char **argv);
int hub_main(int argc, char **argv);
int peer_main(int argc, char **argv);
int ctl_main(int argc, char **argv);
int top_main(int argc, char **argv);
int doctor_main(int argc, char **argv);

#endif
