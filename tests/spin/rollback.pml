/* tests/spin/rollback.pml - back to a restore point, of a VM that is off: a part of Turns. */
rollback:
		/* k becomes "before", s_to what is gone back to */
		atomic {
			skip;
			d_step {
				k = 0; j = 0;
				do
				:: j < snapshots && (s_st[j] != S_TAKEN || l_fold[s_layer[j]] != NONE) -> j++
				:: else -> break
				od; i = 0
			}
		}
		do
		:: d_step { j + 1 < snapshots && s_st[j + 1] == S_TAKEN && l_fold[s_layer[j + 1]] == NONE -> j++ }
		:: true -> break
		od;
		if
		:: j >= snapshots -> goto idle
		:: else
		fi;
		atomic {
			d_step {
				/* 1 plan: the present top by what the catalogue knows. One that was folded meanwhile is none any more. */
				if
				:: l_fold[s_layer[j]] != NONE -> k = MAXK
				:: else -> k = snapshots
				fi
			}
			if
			:: k == MAXK -> goto idle
			:: else
			fi
		}
		d_step {
			snapshots++;
			l = path; born++; nx = born;
			s_st[k] = S_BACK; s_layer[k] = l; s_next[k] = nx; s_to[k] = s_layer[j]; s_want[k] = s_want[j];
			i = snapshots - 1; y = NONE;
			do
			:: i > 0 && s_st[i - 1] != S_TAKEN -> i--
			:: else -> break
			od;
			if
			:: i > 0 -> y = (s_on[i - 1] != NONE -> s_on[i - 1] : s_layer[i - 1])
			:: else
			fi;
			l_st[l] = L_MADE; l_file[l] = l; l_on[l] = y; l_par[l] = y;
			assert(y != NONE);
			by_rows(s_to[k]);
			if
			:: good && n + 1 > CHAIN_MAX -> born++; s_on[k] = born           /* a copy */
			:: else -> s_on[k] = s_to[k]
			fi;
			j = 0; x = 0; y = 0;
			/* references to all that is read */
			x = s_to[k];
			do
			:: x == BASE || x == NONE -> break
			:: else -> refs[x]++; x = l_par[x]
			od;
			x = 0
		}
look_rollback:
		atomic {
			skip;
			d_step {
				looked = 0;
				if
				:: path == nx -> looked = 1
				:: path == l && !runs -> looked = 2
				:: else -> looked = 3
				fi
			}
			if
			:: looked == 1 -> goto record_rollback
			:: looked == 3 -> goto back_rollback
			:: else
			fi
		}
		/* 2 fetch, what is not here, or what has no room */
		atomic {
			d_step {
				looked = 0;
				by_rows(s_to[k]);
				if
				:: good && s_on[k] == s_to[k]
				:: good && s_on[k] != s_to[k] && l_st[s_on[k]] == 0 ->
					x = s_on[k];
					there[x] = true; delta[x] = c; on[x] = BASE;
					l_st[x] = L_MADE; l_file[x] = x; l_on[x] = BASE; l_par[x] = s_to[k]
				:: good && s_on[k] != s_to[k] && l_st[s_on[k]] != 0
				:: !good && s_on[k] == s_to[k] ->
					by_store(s_to[k]);
					if
					:: good ->
						born++; x = born;
						there[x] = true; delta[x] = c; on[x] = BASE;
						l_file[s_to[k]] = x; l_on[s_to[k]] = BASE
					:: else -> looked = 3
					fi
				:: else -> looked = 3
				fi;
				x = 0
			}
			if
			:: looked == 3 -> goto back_rollback
			:: else
			fi
		}
		d_step { there[nx] = true; delta[nx] = 0; on[nx] = l_file[s_on[k]] }
		/* 4 place: after a last look, that nobody has started it */
		atomic {
			d_step {
				if
				:: path == l && (!runs || BUG(12)) -> path = nx; live = s_want[k]; looked = 1
				:: path == nx -> looked = 1
				:: else -> looked = 3
				fi
			}
			if
			:: looked == 3 -> goto back_rollback
			:: else
			fi
		}
record_rollback:
		atomic {
			skip;
			d_step {
				by_headers(l);
				assert(good);
				s_want[k] = c; s_st[k] = S_TAKEN; l_st[l] = L_SEALED;
				if
				:: l_st[s_on[k]] == L_MADE -> l_st[s_on[k]] = L_SEALED
				:: else
				fi
			}
		}
		goto drop_rollback;
back_rollback:
		atomic {
			skip;
			d_step {
				if
				:: there[nx] -> unlink(nx)
				:: else
				fi;
				if
				:: s_on[k] != s_to[k] && l_st[s_on[k]] == L_MADE ->
					unlink(s_on[k]);
					l_st[s_on[k]] = 0; l_file[s_on[k]] = NONE; l_on[s_on[k]] = NONE; l_par[s_on[k]] = NONE
				:: else
				fi
			}
		}
		d_step {
			s_st[k] = 0; l_st[l] = 0; l_file[l] = NONE; l_on[l] = NONE; l_par[l] = NONE;
			s_layer[k] = 0; s_next[k] = 0; s_on[k] = 0; s_want[k] = 0
		}
drop_rollback:
		atomic {
			skip;
			d_step {
				x = s_to[k];
				do
				:: x == BASE || x == NONE -> break
				:: else ->
					if
					:: refs[x] > 0 -> refs[x] = refs[x] - 1
					:: else
					fi;
					x = l_par[x]
				od;
				s_to[k] = 0;
				if
				:: s_st[k] == 0 && k == snapshots - 1 -> snapshots = snapshots - 1
				:: else
				fi;
				sweep_due = true; x = 0
			}
		}
		goto idle
