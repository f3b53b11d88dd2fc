/* tests/spin/create.pml - a snapshot while the VM runs, and what becomes of one that was interrupted: a part of Turns. */
create:
		atomic {
			skip;
			d_step {
				l = NONE;
				if
				:: runs ->
					x = top; n = 1;
					do
					:: x == BASE || x == NONE -> break
					:: else -> n++; x = q_on[x]
					od;
					if
					:: n < CHAIN_MAX -> l = top
					:: else
					fi
				:: else
				fi;
				if
				:: l != NONE ->
					born++; nx = born; first = by_path;
					k = snapshots; snapshots++;
					s_st[k] = S_PLANNED; s_layer[k] = l; s_next[k] = nx;
					layer_of_file(q_on[l]);
					l_st[l] = L_MADE; l_file[l] = l;
					l_on[l] = (y == NONE -> BASE : y); l_par[l] = l_on[l]
				:: else
				fi;
				x = 0; y = 0
			}
			if
			:: l == NONE -> goto idle
			:: else
			fi
		}
		/* 2 make: the file at the path is QEMU's */
		atomic {
			d_step {
				if
				:: runs && path == l -> there[nx] = true; on[nx] = l
				:: else -> failed = true
				fi
			}
			if
			:: failed -> goto back_create
			:: else
			fi
		}
		/* 3 add */
		atomic {
			d_step {
				if
				:: runs -> node[nx] = true
				:: else -> failed = true
				fi
			}
			if
			:: failed -> goto back_create
			:: else
			fi
		}
		if
		:: !first || BUG(4) ->
			path = nx;                                   /* 4 place */
		:: else ->
			s_st[k] = S_STOPPED;                         /* before it is done */
			if
			:: BUG(5)
			:: else ->
				d_step {
					if
					:: runs -> stopped = true
					:: else
					fi
				}
			fi
		fi;
		/* 6 switch */
		atomic {
			d_step {
				if
				:: runs && node[nx] && top == l && by_path == first ->   /* nodes have names; those of a QEMU that was started anew are others */
				assert(!by_path || path == l);     /* QEMU opens it once more, by the name that it has for it */
				q_on[nx] = l; top = nx; looked = 1
				:: else -> looked = 0
				fi
			}
			if
			:: looked == 0 -> goto settle_create
			:: else
			fi
		}
taken:
		/* Whoever writes to the file at the path now was started from it, and has not the new top. */
		atomic {
			skip;
			d_step {
				if
				:: path == l && runs && node[l] && top == l && !BUG(6) -> looked = 2
				:: else -> path = nx; looked = 1
				fi
			}
			if
			:: looked == 2 -> goto settle_create
			:: else
			fi
		}
		d_step {
			if
			:: s_st[k] == S_STOPPED && runs -> stopped = false
			:: else
			fi
		}
		d_step {
			if
			:: runs && top == nx -> by_path = false
			:: else
			fi
		}
		d_step {
			by_headers(l);
			assert(good);
			s_want[k] = c; s_st[k] = S_TAKEN; l_st[l] = L_SEALED; sweep_due = true
		}
		goto idle;

settle_create:
		/* QEMU is asked, then files are looked at */
		atomic {
			skip;
			d_step {
				if
				:: !runs -> stand = QEMU_NONE
				:: runs && top == nx && !(by_path && path == nx) -> stand = QEMU_NEXT
				:: runs && by_path && top == path -> stand = QEMU_PATH
				:: runs && top == l -> stand = QEMU_LAYER
				:: else -> stand = QEMU_OTHER
				fi
			}
		}
		atomic {
			d_step {
				if
				:: path != l && path != nx -> looked = 4                          /* foreign */
				:: stand == QEMU_NONE && runs && node[path] -> looked = 3         /* there is one all the same */
				:: stand == QEMU_LAYER -> looked = 2
				:: stand == QEMU_NEXT -> looked = 1
				:: else -> looked = (path == nx -> 1 : 2)
				fi;
				if
				:: BUG(7) && looked == 1 -> looked = 2   /* the row is believed: it was not taken yet */
				:: else
				fi
			}
			if
			:: looked == 1 -> goto taken
			:: looked == 3 -> goto settle_create
			:: looked == 4 -> assert(false)
			:: else
			fi
		}
back_create:
		atomic {
			skip;
			d_step {
				if
				:: s_st[k] == S_STOPPED && runs && path == l -> stopped = false
				:: else
				fi
			}
		}
		d_step {
			if
			:: runs && top != nx -> node[nx] = false
			:: else
			fi
		}
		/* the look at the new file's lock, and the rename */
		atomic {
			d_step {
				if
				:: there[nx] && node[nx] && !BUG(7) -> looked = 3
				:: else ->
					looked = 2;
					if
					:: path == nx -> path = l
					:: else
					fi
				fi
			}
			if
			:: looked == 3 -> goto settle_create
			:: else
			fi
		}
		atomic {
			d_step {
				if
				:: there[nx] && node[nx] && !BUG(7) -> looked = 3
				:: there[nx] && !node[nx] -> unlink(nx)
				:: there[nx] && node[nx] && BUG(7) -> unlink(nx)
				:: else
				fi
			}
			if
			:: looked == 3 -> goto settle_create
			:: else
			fi
		}
		/* it goes on, if it stands */
		d_step {
			if
			:: s_st[k] == S_STOPPED && runs -> stopped = false
			:: else
			fi
		}
		d_step {
			s_st[k] = 0; l_st[l] = 0; l_file[l] = NONE; l_on[l] = NONE; l_par[l] = NONE; s_layer[k] = 0; s_next[k] = 0;
			if
			:: k == snapshots - 1 -> snapshots = snapshots - 1
			:: else
			fi;
			sweep_due = true
		}
		goto idle;
